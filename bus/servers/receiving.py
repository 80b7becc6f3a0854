"""What comes in: bounded where the server queues without bound, and pings where the server was not told of ours.

Daphne puts every frame that arrives into a queue of no size, so a client that floods while its frames wait their turn would
fill the process's memory. Here that queue gets high-water marks at which the socket is not read any more, until the
connection has worked off what waits; TCP then slows the sender down. Uvicorn reads one frame at a time by itself.

Internals used, and nothing else of them: daphne's ``receive`` is the bound ``get`` of an ``asyncio.Queue``; its ``send`` is
known to ``writers.daphne``; ``server.ping_interval``, ``server.ping_timeout``, ``server.ws_factory``; Autobahn's
``autoPingTimeout`` and ``failByDrop``; Twisted's ``transport.pauseProducing`` and ``resumeProducing``. Where they are not as
expected nothing is done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from ..realtime.reader import LINGER
from ..realtime.writer import Send
from .daphne.writer import protocol_of

#: Frames and bytes that wait in one connection's queue before its socket is left unread.
HIGH_FRAMES, HIGH_BYTES = 128, 1024 * 1024

#: The same bytes while the client has not registered: one frame may be as large as any, a second one waits for it.
STRANGERS_BYTES = 16 * 1024

#: What daphne's command line has when nobody says otherwise.
_DAPHNE_PINGS = (20, 30)


class BoundedQueue(asyncio.Queue[Any]):
    """Daphne's queue of one connection, which knows the transport that fills it."""

    # Set by `bound`, since the queue is there already.
    transport: Any
    waiting_bytes: int
    paused: bool
    # Whether the client has registered.
    known: Callable[[], bool]
    # Once the connection is closed by us, what the client still sends is not kept.
    deaf: bool
    _queue: deque[Any]

    def _put(self, item: Any) -> None:
        if self.deaf and item["type"] == "websocket.receive":
            return
        self._queue.append(item)
        self.waiting_bytes += _size(item)
        if not self.paused and self._full():
            self.paused = True
            self.transport.pauseProducing()

    def _full(self) -> bool:
        size = self.waiting_bytes
        return len(self._queue) > HIGH_FRAMES or size > HIGH_BYTES or (size > STRANGERS_BYTES and not self.known())

    def _get(self) -> Any:
        item = self._queue.popleft()
        self.waiting_bytes -= _size(item)
        if self.paused and not self.deaf and len(self._queue) <= HIGH_FRAMES // 2 and self._half_empty():
            self.resume()
        return item

    def _half_empty(self) -> bool:
        """Whether the bytes that wait are half of the mark that was reached, whichever that was."""
        size = self.waiting_bytes
        return size <= STRANGERS_BYTES // 2 or (size <= HIGH_BYTES // 2 and self.known())

    def resume(self) -> None:
        """Read the socket again."""
        self.paused = False
        if self.transport.connected and not self.transport.disconnecting:
            self.transport.resumeProducing()

    def ignore(self, *, flood: bool) -> None:
        """The connection is being closed by us: drop what waits, and read on for the closing handshake only.

        From a flood nothing more is read at all; it has a moment to take our close frame, then the line is cut.
        """
        if self.deaf:
            return
        self.deaf = True
        kept = [item for item in self._queue if item["type"] != "websocket.receive"]
        self._queue.clear()
        self._queue.extend(kept)
        self.waiting_bytes = 0
        if flood:
            self.paused = True
            self.transport.pauseProducing()
            asyncio.get_running_loop().call_later(LINGER, self._cut)
        elif self.paused:
            self.resume()

    def _cut(self) -> None:
        if self.transport.connected:
            self.transport.abortConnection()


def _size(item: Any) -> int:
    return len(item.get("text") or item.get("bytes") or b"")


def bound(receive: Any, send: Send) -> BoundedQueue | None:
    """Bound the queue behind ``receive`` on a server that leaves it without; None where there is nothing to do.

    Also lets Autobahn say why it fails a connection (1002, 1007, 1009) instead of dropping the line.
    """
    queue = getattr(receive, "__self__", None)
    if type(queue) is not asyncio.Queue:
        return None
    protocol = protocol_of(send)
    transport = getattr(protocol, "transport", None)
    if not all(
        hasattr(transport, name) for name in ("pauseProducing", "resumeProducing", "connected", "disconnecting")
    ):
        return None
    protocol.failByDrop = False  # type: ignore[union-attr]
    queue.__class__ = BoundedQueue  # the same object, with more methods
    bounded: Any = queue
    bounded.transport = transport
    bounded.waiting_bytes, bounded.paused, bounded.deaf = 0, False, False
    bounded.known = bool  # Nobody, to begin with.
    made: BoundedQueue = bounded
    return made


def ping_as_told(send: Send, interval: float, timeout: float) -> None:
    """Let daphne ping by our settings, unless its own options were given on the command line. 0 as the interval: no pings."""
    protocol = protocol_of(send)
    server = getattr(protocol, "server", None)
    if protocol is None or server is None:
        return
    if (server.ping_interval, server.ping_timeout) == _DAPHNE_PINGS:
        server.ping_interval, server.ping_timeout = interval or float("inf"), timeout
        # Autobahn keeps what is not named, but for this one: pages without an origin (sandboxed frames) would be refused.
        server.ws_factory.setProtocolOptions(autoPingTimeout=timeout, allowNullOrigin=True)
    if server.ping_timeout == timeout:
        protocol.autoPingTimeout = timeout
