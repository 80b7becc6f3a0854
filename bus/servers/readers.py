"""Which reader a connection gets, if any."""

from __future__ import annotations

from ..realtime.odd_frames import Allowance
from ..realtime.reader import Reader
from ..realtime.writer import Send
from .daphne import reader as daphne
from .daphne import writer as daphne_writer
from .daphne.quiet import quieten
from .daphne.reader import DaphneReader
from .selftest import passed
from .uvicorn import reader as uvicorn
from .uvicorn import writer as uvicorn_writer
from .uvicorn.reader import UvicornReader


def attach(send: Send, *, portable: bool = False, allowance: Allowance | None = None) -> Reader | None:
    """A reader between the socket and the server behind ``send`` (the outermost one); None for a server that is not known.

    To be called right after the handshake was accepted, before anything else is awaited. Messages go through the server's
    queue as ever until the reader's ``take`` is set. With ``portable``, and where the quick way cannot be gone, the server
    reads all of it, and the reader counts what the limits of messages do not see. ``allowance`` is what the unfinished
    messages of clients that have not registered may take together.
    """
    protocol = daphne.socket_of(send)
    if protocol is not None:
        quieten()
        quick = (
            not portable and daphne_writer.protocol_of(send) is not None and passed("daphne", "frames in", daphne.fault)
        )
        return DaphneReader(protocol, quick=quick, allowance=allowance)
    protocol = uvicorn.socket_of(send)
    if protocol is None:
        return None
    direct = uvicorn_writer.protocol_of(send) is not None and uvicorn.whole(protocol)
    if direct and uvicorn.place_of(protocol) is None:
        # A client has to wait for the answer to its handshake. What this one sent before that ends in the middle of a frame,
        # so that the quick reader and the server would not agree where the next one begins.
        protocol.transport.abort()
        direct = False
    quick = direct and not portable and passed("uvicorn", "frames in", uvicorn.fault)
    return UvicornReader(protocol, quick=quick, allowance=allowance)
