"""Of these users one stands in the admin, without a search."""

from __future__ import annotations

from django.contrib import admin

from tests.hosts.people.models import PlainUser

admin.site.register(PlainUser)
