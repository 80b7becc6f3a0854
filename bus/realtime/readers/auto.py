"""Which reader a connection gets, if any."""

from __future__ import annotations

from ..quiet import quieten
from ..selftest import passed
from ..writers import daphne as daphne_writer
from ..writers import uvicorn as uvicorn_writer
from ..writers.base import Send
from . import daphne, uvicorn
from .base import Reader
from .daphne import DaphneReader
from .uvicorn import UvicornReader


def attach(send: Send, *, portable: bool = False) -> Reader | None:
    """A reader between the socket and the server behind ``send`` (the outermost one); None leaves reading to the server.

    To be called right after the handshake was accepted, before anything else is awaited. Messages go through the server's
    queue as ever until the reader's ``take`` is set.
    """
    if portable:
        return None
    protocol = daphne_writer.protocol_of(send)
    if protocol is not None:
        quieten()
        if daphne.at_boundary(protocol) and passed("daphne", "frames in", daphne.fault):
            return DaphneReader(protocol)
        return None
    protocol = uvicorn_writer.protocol_of(send)
    if protocol is not None and uvicorn.at_boundary(protocol) and passed("uvicorn", "frames in", uvicorn.fault):
        return UvicornReader(protocol)
    return None
