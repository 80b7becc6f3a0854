"""Which writer a connection gets."""

from __future__ import annotations

from collections.abc import Callable

from ..selftest import passed
from . import daphne, uvicorn
from .base import Bounds, Send, Writer
from .daphne import DaphneWriter
from .portable import PortableWriter
from .uvicorn import UvicornWriter


def choose(send: Send, bounds: Bounds, on_overflow: Callable[[], None], *, portable: bool = False) -> Writer:
    """The best writer for the server behind ``send``, which must be the outermost ASGI ``send`` (middleware wraps it).

    ``portable`` asks for the one that only uses ASGI.
    """
    if not portable:
        protocol = daphne.protocol_of(send)
        if protocol is not None and passed("daphne", "frames out", daphne.fault):
            return DaphneWriter(protocol, bounds, on_overflow)
        protocol = uvicorn.protocol_of(send)
        if protocol is not None and passed("uvicorn", "frames out", uvicorn.fault):
            return UvicornWriter(protocol, send, bounds, on_overflow)
    return PortableWriter(send, bounds, on_overflow)
