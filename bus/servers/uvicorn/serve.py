"""How a process of uvicorn starts: under ``runbus``, or by the command ``uvicorn``."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence

from ...conf.settings import config
from ...monitoring.log_lines import MaskSecrets, Strangers
from ...realtime.frame import MAX_FRAME
from ..adapter import Application, Start
from ..listeners import BACKLOG
from . import handshakes


def prepare() -> None:
    """Bound HTTP where uvicorn is loaded, and keep secrets out of its log. The lifespan events start the node."""
    if "uvicorn.server" in sys.modules:
        handshakes.install()
    # Its access log shows tokens with the URLs, its error log tracebacks for faults of unknown clients.
    for name in ("uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).addFilter(MaskSecrets())
    logging.getLogger("uvicorn.error").addFilter(Strangers())


def run(application: Application, sockets: Sequence[socket.socket], opened: Callable[[], None], start: Start) -> None:
    """Serve on ready-made sockets (:meth:`bus.servers.adapter.ServeModule.run`)."""
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    handshakes.install()
    settings = config()

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # The inherited method raises the signal again in the end, so that a clean stop would not exit with 0.
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
                await start(self._stop_accepting)

        def _stop_accepting(self) -> None:
            for listener in self.servers:
                listener.close()

    server = Server(
        uvicorn.Config(
            application,
            http=AutoHTTPProtocol,
            ws="websockets-sansio",
            loop=settings.loop,
            ws_max_size=MAX_FRAME,
            ws_ping_interval=settings.ping_interval,
            ws_ping_timeout=settings.ping_timeout,
            # A compressed frame would have to be built for each member, and a bomb would show only while it is unpacked.
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
