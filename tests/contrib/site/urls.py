"""The pages of tasks, and the bus."""

from __future__ import annotations

from django.urls import include, path

from . import views

urlpatterns = [
    path("start", views.start),
    path("begin/<str:key>", views.begin),
    path("told/<str:key>", views.told),
    path("page/<str:key>", views.page),
    path("", include("bus.urls")),
]
