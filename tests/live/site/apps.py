"""The app of the pages."""

from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The rows and their mirror."""

    name = "tests.live.site"
    label = "site"
    default_auto_field = "django.db.models.BigAutoField"
