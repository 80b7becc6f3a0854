"""The ASGI application of a project with the bus in it: HTTP to Django, sockets to consumers, and the node's own beginning.

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

from .api.endings import begin
from .checks.bus import refuse_to_serve
from .conf import routes
from .monitoring.log_lines import Damper
from .servers import registry
from .servers.startup import lifespan

Application = Callable[[Any, Any, Any], Awaitable[None]]

logger = logging.getLogger("arqonbus.asgi")


def bus_application(http: Application, websocket: Application) -> Application:
    """The application over ``http`` (Django's) and ``websocket`` (a ``URLRouter`` with the bus's consumers).

    It also does for the server behind it what the bus wants of it: under ``daphne`` and ``uvicorn`` the node begins with the
    process, slow handshakes end, and tokens stay out of access logs. A path that ``websocket`` has no route for is refused in
    order. What a page of the project may mean by it is tried before (``bus.conf.routes``): the console looks for its socket
    at its own path, with the project's prefix and language. Raises ``ImproperlyConfigured`` for settings that cannot work.
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
            # Streams of events look at what the server behind it holds back for a slow reader.
            scope["arqonbus.send"] = send
            ending = begin(scope)
            try:
                await http(scope, receive, send)
            finally:
                ending.come()

    return application


class _Sockets:
    """A router of sockets that also answers for the paths it does not know, and for a port of telemetry's own."""

    def __init__(self, router: Application) -> None:
        self._router = router
        self._paths = [f"/{route.pattern}" for route in getattr(router, "routes", ())]
        #: What ``/`` is on a port of telemetry's own (``bus.servers.serve`` marks what came in there).
        self._telemetry = next((path for path in self._paths if path.endswith("/telemetry/")), "")
        # Strangers try addresses: they must not fill the log.
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
        """Refuse the handshake (403 is all that ASGI lets an application say), and tell the log what there is."""
        if self._damper.admit() is not None:
            there = ", ".join(self._paths) or "the paths in asgi.py"
            logger.warning("No socket at %s. The sockets are at %s", path, there, extra={"event": "no_such_socket"})
        await receive()
        await send({"type": "websocket.close", "code": 4404})


def _unrouted(problem: ValueError) -> bool:
    """Whether this is how ``URLRouter`` says that no route matches; it has no exception of its own for that."""
    return str(problem).startswith("No route found for path")
