"""The app of the pages."""

from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The page of a task."""

    name = "tests.contrib.site"
    label = "site"
