"""One process of ``runbus``: an ASGI application on ready-made sockets, under a server that the registry knows."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..node import current
from .adapter import Application, PlainConsumer, plain_of
from .registry import ADAPTERS
from .startup import start_node

SERVERS = tuple(ADAPTERS)


class Listening(NamedTuple):
    """The sockets of the bus's port and of the telemetry port."""

    bus: Sequence[socket.socket]
    telemetry: Sequence[socket.socket]


def on_two_ports(application: Application, listening: Listening) -> Application:
    """Mark connections of the telemetry port (``scope["arqonbus.listener"]``), so that the project can route them.

    ``scope["arqonbus.bus_port"]`` is then the port of the bus, for a person who opened the other port in a browser.
    """
    ports = {made.getsockname()[1] for made in listening.telemetry}
    if not ports:
        return application
    bus_port = listening.bus[0].getsockname()[1]

    return _Marked(application, ports, bus_port)


class _Marked:
    """An application that knows the connections of the telemetry port."""

    def __init__(self, application: Application, ports: set[int], bus_port: int) -> None:
        self._application = application
        self._ports = ports
        self._bus_port = bus_port

    def _mark(self, scope: Any) -> None:
        server = scope.get("server")
        if server and server[1] in self._ports:
            scope["arqonbus.listener"] = "telemetry"
            scope["arqonbus.bus_port"] = self._bus_port

    def plain(self, scope: Any) -> PlainConsumer | None:
        """The application's own answer (``adapter.Plain``)."""
        self._mark(scope)
        plain = plain_of(self._application)
        return plain(scope) if plain is not None else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._mark(scope)
        await self._application(scope, receive, send)


def serve(
    server: str,
    application: Application,
    listening: Listening,
    *,
    opened: Callable[[], None],
    ready: Callable[[], None],
    leave_port: bool,
) -> None:
    """Serve until the process has to stop.

    ``opened`` is called once connections are accepted, ``ready`` once clients can be served. With ``leave_port`` the process
    accepts no more connections when its drain begins, because sibling processes accept on the same sockets. Otherwise new
    clients are closed with 4012, so that they come back.
    """

    async def start(stop_accepting: Callable[[], None]) -> None:
        if leave_port:
            current().on_drain.append(stop_accepting)
        await start_node()
        ready()

    sockets = [*listening.bus, *listening.telemetry]
    ADAPTERS[server].serve.run(on_two_ports(application, listening), sockets, opened, start)
