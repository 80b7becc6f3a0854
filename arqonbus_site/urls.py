"""The URLs of the ready project: those of the bus, and the admin."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from bus.console.forms import AdminLoginForm

admin.site.site_header = admin.site.site_title = "ArqonBus"
admin.site.login_form = AdminLoginForm
admin.site.index_title = "Rooms, clients, messages, access"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("bus.urls")),
]
