"""The app's configuration."""

from __future__ import annotations

from django.apps import AppConfig


class TelemetryConfig(AppConfig):
    """``telemetry``: events of the bus and of clients, as a stream."""

    name = "telemetry"
    verbose_name = "ArqonBus telemetry"
