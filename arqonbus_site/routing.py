"""The paths of the sockets, each with its consumer."""

from __future__ import annotations

from channels.routing import URLRouter
from django.urls import path

from bus.consumers import BusConsumer
from telemetry.consumers import TelemetryConsumer

_bus, _telemetry = BusConsumer.as_asgi(), TelemetryConsumer.as_asgi()

# The type stubs only know Django's views.
websocket_application = URLRouter(
    [
        path("", _bus),  # type: ignore[arg-type, list-item]
        path("ws/", _bus),  # type: ignore[arg-type, list-item]
        path("telemetry/", _telemetry),  # type: ignore[arg-type, list-item]
    ]
)
