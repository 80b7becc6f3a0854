"""The ASGI application of a project with the bus: it routes HTTP to Django and sockets to consumers, and starts the node.

::

    django_application = get_asgi_application()  # first: it sets Django up

    from bus.asgi import bus_application
    application = bus_application(django_application, URLRouter([path("bus/", BusConsumer.as_asgi())]))
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from django.apps import apps

from .api.listening import serve
from .checks.bus import refuse_to_serve
from .conf import routes
from .monitoring.log_lines import Damper
from .servers import registry
from .servers.startup import lifespan

Application = Callable[[Any, Any, Any], Awaitable[None]]

logger = logging.getLogger("arqonbus.asgi")


def bus_application(http: Application, websocket: Application) -> Application:
    """The application for ``http`` (Django's) and ``websocket`` (a ``URLRouter`` with the bus's consumers).

    Under ``daphne`` and ``uvicorn`` the node starts with the process, slow handshakes end, and tokens stay out of access logs.
    The console looks for its socket at its own path, with the project's prefix and language, so such paths are tried too
    (``bus.conf.routes``). A path without a route is refused. Raises ``ImproperlyConfigured`` for settings that cannot work.
    """
    refuse_to_serve()
    apps.get_app_config("bus").sockets = websocket  # type: ignore[attr-defined]
    registry.prepare()
    by_path = _Sockets(websocket)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await by_path(scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan(scope, receive, send)
        else:
            # An event stream measures the bytes that the server holds back for a slow reader.
            scope["arqonbus.send"] = send
            await serve(http, scope, receive, send)

    return application


class _Sockets:
    """A router of sockets that also refuses unknown paths, and serves the telemetry port."""

    def __init__(self, router: Application) -> None:
        self._router = router
        self._paths = [f"/{route.pattern}" for route in getattr(router, "routes", ())]
        #: The path that ``/`` means on the telemetry port. ``bus.servers.serve`` marks the connections of that port.
        self._telemetry = next((path for path in self._paths if path.endswith("/telemetry/")), "")
        # Strangers who try many addresses must not fill the log.
        self._damper = Damper(rate=1.0, burst=20.0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = routes.local_path(scope)
        if path == "/" and self._telemetry and scope.get("arqonbus.listener") == "telemetry":
            path = self._telemetry
        for meant in routes.candidates(path):
            try:
                await self._router(dict(scope, path=meant, root_path=""), receive, send)
            except ValueError as problem:
                if not _unrouted(problem):
                    raise
            else:
                return
        await self._refuse(scope["path"], receive, send)

    async def _refuse(self, path: str, receive: Any, send: Any) -> None:
        """Refuse the handshake, and log the existing paths. ASGI lets an application refuse only with 403."""
        if self._damper.admit() is not None:
            there = ", ".join(self._paths) or "the paths in asgi.py"
            logger.warning("No socket at %s. The sockets are at %s", path, there, extra={"event": "no_such_socket"})
        await receive()
        await send({"type": "websocket.close", "code": 4404})


def _unrouted(problem: ValueError) -> bool:
    """Whether ``problem`` means that ``URLRouter`` found no route. It raises a plain ``ValueError`` for that."""
    return str(problem).startswith("No route found for path")
