"""The ASGI application of a project with the bus in it: HTTP to Django, sockets to consumers, and the node's own beginning.

::

    django_application = get_asgi_application()  # first: it sets Django up

    from bus.asgi import bus_application
    application = bus_application(django_application, URLRouter([path("bus/", BusConsumer.as_asgi())]))
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from .serving.beginning import begin_with_daphne, lifespan, mask_access_logs
from .serving.handshakes import install_on_daphne

Application = Callable[[Any, Any, Any], Awaitable[None]]


def bus_application(http: Application, websocket: Application) -> Application:
    """The application over ``http`` (Django's) and ``websocket`` (a ``URLRouter`` with the bus's consumers).

    It also does for the server behind it what the bus wants of it: under ``daphne`` and ``uvicorn`` the node begins with the
    process, slow handshakes end, and tokens stay out of access logs.
    """
    if "daphne.server" in sys.modules:
        install_on_daphne()
    begin_with_daphne()
    mask_access_logs()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan(scope, receive, send)
        else:
            # Streams of events look at what the server behind it holds back for a slow reader.
            scope["arqonbus.send"] = send
            await http(scope, receive, send)

    return application
