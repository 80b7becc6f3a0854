"""Which writer a connection gets."""

from __future__ import annotations

from collections.abc import Callable

from ..realtime.writer import Bounds, Send, Writer
from .daphne import writer as daphne
from .daphne.writer import DaphneWriter
from .portable import PortableWriter
from .selftest import passed, server_of, stands_aside
from .uvicorn import writer as uvicorn
from .uvicorn.writer import UvicornWriter


def choose(send: Send, bounds: Bounds, on_overflow: Callable[[], None], *, portable: bool = False) -> Writer:
    """The best writer for the server behind ``send``, which must be the outermost ASGI ``send`` (middleware wraps it).

    ``portable`` asks for the one that only uses ASGI. A known server that gets it unasked is a line in the log.
    """
    if not portable:
        protocol = daphne.protocol_of(send)
        if protocol is not None and passed("daphne", "frames out", daphne.fault):
            return DaphneWriter(protocol, bounds, on_overflow)
        protocol = uvicorn.protocol_of(send)
        if protocol is not None and passed("uvicorn", "frames out", uvicorn.fault):
            return UvicornWriter(protocol, send, bounds, on_overflow)
        if (server := server_of(send)) is not None:
            stands_aside(server, "frames out", _why_not(send))
    return PortableWriter(send, bounds, on_overflow)


def _why_not(send: Send) -> str:
    """What keeps a known server from the direct way, as far as that can be told."""
    if uvicorn.is_another(send):
        return "uvicorn runs another implementation of WebSockets than websockets-sansio; leave out its option --ws"
    if uvicorn.compresses(send):
        return "compression was negotiated; start uvicorn with --ws-per-message-deflate false"
    return "its transport is none that can be written to directly, such as one for TLS; let a proxy in front end TLS"
