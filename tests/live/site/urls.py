"""The pages, and what changes their rows."""

from __future__ import annotations

from django.urls import include, path

from . import views

urlpatterns = [
    path("rows/", views.page, name="rows"),
    path("rows.json", views.rows),
    path("churn", views.churn),
    path("talk/", views.talk, name="talk"),
    path("", include("bus.urls")),
]
