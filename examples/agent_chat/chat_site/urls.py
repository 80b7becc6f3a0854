"""URLs of the chat. The bus's pages and REST are below /bus/."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from chat import views

urlpatterns = [
    path("", views.page, name="page"),
    path("ask/", views.ask, name="ask"),
    path("stop/", views.stop, name="stop"),
    path("admin/", admin.site.urls),
    path("bus/", include("bus.urls")),
]
