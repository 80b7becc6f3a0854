"""URLs of the support desk. The bus's pages and REST are below /bus/."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from desk import views

urlpatterns = [
    path("", views.page, name="page"),
    path("write/", views.write, name="write"),
    path("admin/", admin.site.urls),
    path("bus/", include("bus.urls")),
]
