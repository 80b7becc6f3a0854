"""URLs of the shop. The bus's pages and REST are below /bus/."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("orders/", views.place_order),
    path("orders/<int:number>/ship/", views.ship_order),
    path("bus/", include("bus.urls")),
]
