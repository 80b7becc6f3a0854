"""The app's configuration."""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """``shop``: orders."""

    name = "shop"

    def ready(self) -> None:
        """Connect what the bus tells of orders."""
        from . import on_the_bus  # noqa: F401
