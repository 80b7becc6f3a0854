"""The ASGI application of a project with the bus: it routes HTTP to Django and sockets to consumers, and starts the node.

::

    django_application = get_asgi_application()  # first: it sets Django up

    from bus.asgi import bus_application
    application = bus_application(django_application, URLRouter([path("bus/", BusConsumer.as_asgi())]))
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any

from django.apps import apps

from .api.listening import serve
from .checks.bus import refuse_to_serve
from .conf import routes
from .consumers import BusConsumer
from .monitoring.log_lines import Damper
from .servers import registry
from .servers.adapter import PlainConsumer
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
    return _BusApplication(http, _Sockets(websocket))


class _BusApplication:
    """The ASGI application of :func:`bus_application`."""

    def __init__(self, http: Application, sockets: _Sockets) -> None:
        self._http = http
        self._sockets = sockets

    def plain(self, scope: Any) -> PlainConsumer | None:
        """The consumer that a server's adapter may serve without ASGI (``bus.servers.adapter.Plain``)."""
        return self._sockets.plain(scope)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self._sockets(scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan(scope, receive, send)
        else:
            # An event stream measures the bytes that the server holds back for a slow reader.
            scope["arqonbus.send"] = send
            await serve(self._http, scope, receive, send)


class _Sockets:
    """A router of sockets that also refuses unknown paths, and serves the telemetry port."""

    def __init__(self, router: Application) -> None:
        self._router = router
        self._paths = [f"/{route.pattern}" for route in getattr(router, "routes", ())]
        #: The path that ``/`` means on the telemetry port. ``bus.servers.serve`` marks the connections of that port.
        self._telemetry = next((path for path in self._paths if path.endswith("/telemetry/")), "")
        # Strangers who try many addresses must not fill the log.
        self._damper = Damper(rate=1.0, burst=20.0)

    def _meant(self, scope: Any) -> list[str]:
        """The paths that a handshake may mean, the likeliest first."""
        path = routes.local_path(scope)
        if path == "/" and self._telemetry and scope.get("arqonbus.listener") == "telemetry":
            path = self._telemetry
        return routes.candidates(path)

    def plain(self, scope: Any) -> PlainConsumer | None:
        """The consumer behind a handshake's path, if it is one of the bus's with nothing of the project around it."""
        for meant in self._meant(scope):
            if (application := routes.found(self._router, meant)) is not None:
                return application.consumer_class() if _is_plain(application) else None
        return None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for meant in self._meant(scope):
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


#: The code of what Channels makes of a consumer.
_AS_ASGI = getattr(BusConsumer.as_asgi(), "__code__", None)


def _is_plain(application: Any) -> bool:
    """Whether an application is a consumer of the bus as Channels made it, and serves its sockets by the bus's own code."""
    # A decorator that copies the attributes of what it wraps has code of its own, and a proxy that shows them is no function.
    if _AS_ASGI is None or type(application) is not FunctionType or application.__code__ is not _AS_ASGI:
        return False
    if application.consumer_initkwargs:  # type: ignore[attr-defined] # Channels sets it
        return False
    consumer = application.consumer_class  # type: ignore[attr-defined]
    return issubclass(consumer, BusConsumer) and all(
        getattr(consumer, name) is getattr(BusConsumer, name) for name in ("__call__", "arrive", "subprotocol")
    )


def _unrouted(problem: ValueError) -> bool:
    """Whether ``problem`` means that ``URLRouter`` found no route. It raises a plain ``ValueError`` for that."""
    return str(problem).startswith("No route found for path")
