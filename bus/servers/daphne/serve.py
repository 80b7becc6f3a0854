"""How a process of daphne starts: under ``runbus``, or by the command ``daphne``."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ...conf.settings import config
from ...realtime.frame import MAX_FRAME
from ..adapter import Application, Start
from ..listeners import BACKLOG
from ..startup import start_node
from . import event_loop, handshakes


def prepare() -> None:
    """Bound HTTP where daphne is loaded. Under the command ``daphne`` the node starts once the reactor runs."""
    if "daphne.server" in sys.modules:
        handshakes.install()
    if "daphne.cli" in sys.modules:
        from twisted.internet import reactor

        event_loop.choose(reactor, config().loop)

        def start() -> Coroutine[Any, Any, None]:
            _lengthen_queues(reactor)
            return start_node()

        _when_running(start)


def run(application: Application, sockets: Sequence[socket.socket], opened: Callable[[], None], start: Start) -> None:
    """Serve on ready-made sockets (:meth:`bus.servers.adapter.ServeModule.run`)."""
    from daphne.server import Server
    from twisted.internet import reactor

    handshakes.install()
    settings = config()
    event_loop.choose(reactor, settings.loop)
    ports: list[Any] = []

    def stop_accepting() -> None:
        for port in ports:
            port.stopListening()

    async def begin() -> None:
        opened()
        await start(stop_accepting)

    def ready() -> None:
        # Daphne's own endpoint strings cannot adopt an IPv6 socket.
        for made in sockets:
            ports.append(reactor.adoptStreamPort(made.fileno(), made.family, server.http_factory))
            made.close()
        _when_running(begin)

    server = Server(
        application,
        endpoints=["adopted"],
        ready_callable=ready,
        ping_interval=settings.ping_interval or float("inf"),
        ping_timeout=settings.ping_timeout,
        websocket_timeout=-1,
        websocket_max_message_size=MAX_FRAME,
        websocket_max_frame_size=MAX_FRAME,
        application_close_timeout=10,
        verbosity=0,
        server_name="",
    )
    server.endpoints = []
    server.run()


def _when_running(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``start`` as a task, once the reactor's event loop runs."""
    from twisted.internet import reactor

    tasks: set[asyncio.Task[None]] = set()

    def spawn() -> None:
        task = asyncio.get_running_loop().create_task(start())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # Not `callWhenRunning`, which is just before the loop runs.
    reactor.callLater(0, spawn)  # type: ignore[arg-type] # the stubs forget `self`


def _lengthen_queues(reactor: Any) -> None:
    """Let as many connections wait on each listening socket as under ``runbus``.

    Twisted asks for 50. When a thousand clients come back at once, the kernel drops the attempts of the others, and a proxy in
    front takes the process for dead. An endpoint with a longer queue of its own keeps it.
    """
    from twisted.internet.tcp import Port

    for port in reactor.getReaders():
        if isinstance(port, Port) and port.backlog < BACKLOG:
            port.socket.listen(BACKLOG)
