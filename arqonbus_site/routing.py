"""Which consumer serves which path."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from django.urls import path, re_path

from bus.consumers import BusConsumer
from telemetry.consumers import TelemetryConsumer


async def _nothing_here(scope: Any, receive: Any, send: Any) -> None:
    """A path without a socket: the handshake is refused (403), which is all that ASGI lets a server say."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})


_bus, _telemetry = BusConsumer.as_asgi(), TelemetryConsumer.as_asgi()

# The stubs know Django's views only.
_by_path = URLRouter(
    [
        path("", _bus),  # type: ignore[arg-type, list-item]
        path("ws/", _bus),  # type: ignore[arg-type, list-item]
        path("telemetry/", _telemetry),  # type: ignore[arg-type, list-item]
        re_path("", _nothing_here),  # type: ignore[arg-type, list-item]
    ]
)


async def websocket_application(scope: Any, receive: Any, send: Any) -> None:
    """The socket of a path; on the telemetry port ``/`` is telemetry (``bus.serving.servers`` marks what came in there)."""
    if scope.get("arqonbus.listener") == "telemetry" and scope["path"] == "/":
        await _telemetry(scope, receive, send)
    else:
        await _by_path(scope, receive, send)
