"""Configuration of the app ``shop``."""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The app that sells articles."""

    name = "shop"

    def ready(self) -> None:
        """Connect the mirror of orders."""
        from . import on_the_bus  # noqa: F401
