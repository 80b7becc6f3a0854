"""Which consumer serves which path."""

from __future__ import annotations

from channels.routing import URLRouter
from django.urls import path

from bus.consumers import BusConsumer

websocket_application = URLRouter(
    [
        path("", BusConsumer.as_asgi()),  # type: ignore[arg-type, list-item] # stubs know Django's views only
        path("ws/", BusConsumer.as_asgi()),  # type: ignore[arg-type, list-item]
    ]
)
