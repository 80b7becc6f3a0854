"""The ASGI servers that the bus knows, and the one place that picks among them.

A new server is one folder with the four modules of ``bus.servers.adapter``, and one entry in :data:`ADAPTERS`. Under any other
server connections work through ASGI alone.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from ..realtime.event_writer import no_backlog
from ..realtime.frame_limits import FragmentBudget
from ..realtime.reader import Reader
from ..realtime.writer import Bounds, Send, Writer
from . import daphne, uvicorn
from .adapter import DirectSocket, Pings
from .portable import PortableWriter
from .selftest import not_used, passed

#: The adapters by name. The first one is the default of ``runbus``.
ADAPTERS = MappingProxyType({adapter.name: adapter for adapter in (daphne.ADAPTER, uvicorn.ADAPTER)})


def attach_reader(
    send: Send | DirectSocket,
    *,
    portable: bool = False,
    budget: FragmentBudget | None = None,
    pings: Pings | None = None,
) -> Reader | None:
    """A reader between the socket and the server behind ``send`` (the outermost one); None for an unknown server.

    Call this right after the handshake was accepted, before anything else is awaited. Messages go through the server's queue
    until the reader's ``begin``. With ``portable``, and where the direct way does not work, the server reads all frames and the
    reader only counts them. ``budget`` bounds what unregistered clients hold in unfinished messages.
    """
    if isinstance(send, DirectSocket):
        return send.attach(budget, pings)
    for adapter in ADAPTERS.values():
        allowed = _allowed(adapter.packages, "received frames", adapter.reader.fault, portable=portable)
        reader = adapter.reader.attach(send, allowed, budget=budget, pings=pings)
        if reader is not None:
            return reader
    return None


def choose_writer(
    send: Send | DirectSocket, bounds: Bounds, on_overflow: Callable[[], None], *, portable: bool = False
) -> Writer:
    """The best writer for the server behind ``send``, which must be the outermost ASGI ``send`` (middleware wraps it).

    ``portable`` asks for the writer that only uses ASGI. When a known server gets that one unasked, the log says why.
    """
    if isinstance(send, DirectSocket):
        return send.write_by(bounds, on_overflow)
    if not portable:
        for adapter in ADAPTERS.values():
            allowed = _allowed(adapter.packages, "sent frames", adapter.writer.fault)
            writer = adapter.writer.create(send, allowed, bounds, on_overflow)
            if writer is not None:
                return writer
            if adapter.made(send) and (reason := adapter.writer.why_not(send)):
                not_used(adapter.name, "sent frames", reason)
    return PortableWriter(send, bounds, on_overflow)


def backlog_of(send: Send | None) -> Callable[[], int]:
    """Tells how many bytes of an HTTP response the server holds back for the client; 0 where its ``send`` waits for it."""
    if send is not None:
        for adapter in ADAPTERS.values():
            backlog = adapter.writer.backlog_of(send)
            if backlog is not None:
                return backlog
    return no_backlog


def _allowed(
    packages: tuple[str, ...], direction: str, fault: Callable[[], str | None], *, portable: bool = False
) -> Callable[[], bool]:
    return lambda: not portable and passed(packages, direction, fault)


def prepare() -> None:
    """Prepare the server that runs in this process, when the application is made."""
    for adapter in ADAPTERS.values():
        adapter.serve.prepare()
