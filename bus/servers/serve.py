"""One process: an ASGI application on ready-made sockets, under daphne or uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..conf.settings import config
from ..node import current
from ..realtime.frame import MAX_FRAME
from .daphne import handshakes as daphne_lines
from .listeners import BACKLOG
from .startup import begin
from .uvicorn import handshakes as uvicorn_lines

Application = Callable[[Any, Any, Any], Awaitable[None]]

SERVERS = ("daphne", "uvicorn")


@dataclass(frozen=True)
class Listening:
    """What a process serves: sockets of the bus's port and of the telemetry port."""

    bus: Sequence[socket.socket]
    telemetry: Sequence[socket.socket]


def on_two_ports(application: Application, listening: Listening) -> Application:
    """Mark what came in on the telemetry port, so that the project can route it (``scope["arqonbus.listener"]``).

    ``scope["arqonbus.bus_port"]`` is then the port of the bus, for who opened the other one in a browser.
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
    begun: Callable[[], None] = lambda: None,
    leave_port: bool,
) -> None:
    """Serve until the process is told to stop.

    ``opened`` is called once connections are taken, ``begun`` once clients can be served. With ``leave_port`` the process stops
    accepting when its drain begins, because sibling processes accept on the same sockets; otherwise newcomers are told to come
    back (4012).
    """
    run = {"daphne": _daphne, "uvicorn": _uvicorn}[server]
    sockets = [*listening.bus, *listening.telemetry]
    run(on_two_ports(application, listening), sockets, opened, begun, leave_port)


async def _begin(stop_accepting: Callable[[], None] | None, begun: Callable[[], None]) -> None:
    """Start the node before its first client comes, and tell that the process is ready."""
    if stop_accepting is not None:
        current().on_drain.append(stop_accepting)
    await begin()
    begun()


def _daphne(
    application: Application,
    sockets: Sequence[socket.socket],
    opened: Callable[[], None],
    begun: Callable[[], None],
    leave_port: bool,
) -> None:
    from daphne.server import Server
    from twisted.internet import reactor

    daphne_lines.install()
    settings = config()
    ports: list[Any] = []
    tasks: set[asyncio.Task[None]] = set()

    def stop_accepting() -> None:
        for port in ports:
            port.stopListening()

    def start() -> None:
        opened()
        tasks.add(asyncio.get_running_loop().create_task(_begin(stop_accepting if leave_port else None, begun)))

    def ready() -> None:
        # Daphne's own endpoint strings cannot adopt an IPv6 socket.
        for made in sockets:
            ports.append(reactor.adoptStreamPort(made.fileno(), made.family, server.http_factory))
            made.close()
        # Not `callWhenRunning`, which is just before the loop runs.
        reactor.callLater(0, start)  # type: ignore[arg-type] # the stubs forget `self`

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


def _uvicorn(
    application: Application,
    sockets: Sequence[socket.socket],
    opened: Callable[[], None],
    begun: Callable[[], None],
    leave_port: bool,
) -> None:
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    uvicorn_lines.install()
    settings = config()

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # The usual one sends the signal to itself again when it is done, so that a clean stop would not exit with 0.
            import signal

            before = [(number, signal.signal(number, self.handle_exit)) for number in (signal.SIGTERM, signal.SIGINT)]
            try:
                yield
            finally:
                for number, handler in before:
                    signal.signal(number, handler)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.should_exit:
                opened()
                await _begin(self._leave_port if leave_port else None, begun)

        def _leave_port(self) -> None:
            for listener in self.servers:
                listener.close()

    server = Server(
        uvicorn.Config(
            application,
            http=AutoHTTPProtocol,
            ws="websockets-sansio",
            ws_max_size=MAX_FRAME,
            ws_ping_interval=settings.ping_interval,
            ws_ping_timeout=settings.ping_timeout,
            # A compressed frame would have to be built per member, and a bomb would have to be found while it is unpacked.
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=3,
        )
    )
    server.run(sockets=list(sockets))
