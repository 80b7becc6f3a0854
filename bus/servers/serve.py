"""One process of ``runbus``: an ASGI application on ready-made sockets, under a server that the registry knows."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..node import current
from .adapter import Application
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

    async def marked(scope: Any, receive: Any, send: Any) -> None:
        server = scope.get("server")
        if server and server[1] in ports:
            scope["arqonbus.listener"] = "telemetry"
            scope["arqonbus.bus_port"] = bus_port
        await application(scope, receive, send)

    return marked


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
