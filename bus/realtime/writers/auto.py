"""Which writer a connection gets."""

from __future__ import annotations

from collections.abc import Callable

from .base import Bounds, Send, Writer
from .daphne import DaphneWriter, protocol_of
from .portable import PortableWriter


def choose(send: Send, bounds: Bounds, on_overflow: Callable[[], None], *, portable: bool = False) -> Writer:
    """The best writer for the server behind ``send``, which must be the outermost ASGI ``send`` (middleware wraps it).

    ``portable`` asks for the one that only uses ASGI.
    """
    if not portable:
        protocol = protocol_of(send)
        if protocol is not None:
            return DaphneWriter(protocol, bounds, on_overflow)
    return PortableWriter(send, bounds, on_overflow)
