"""The ASGI application: ``daphne arqonbus_site.asgi:application``."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "arqonbus_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from arqonbus_site.routing import websocket_application  # noqa: E402 - Django must be set up before
from bus.serving.beginning import begin_with_daphne, lifespan, mask_access_logs  # noqa: E402
from bus.serving.handshakes import install_on_daphne  # noqa: E402

if "daphne.server" in sys.modules:
    install_on_daphne()
begin_with_daphne()
mask_access_logs()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """HTTP to Django, sockets to the bus and to telemetry."""
    if scope["type"] == "websocket":
        await websocket_application(scope, receive, send)
    elif scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    else:
        # Streams of events look at what the server behind it holds back for a slow reader.
        scope["arqonbus.send"] = send
        await django_application(scope, receive, send)
