"""A WebSocket without HTTP objects, without Autobahn and without an ASGI task: what a connection is behind a usual handshake.

One object is the protocol of Twisted's transport and the reader of the connection. While the connection is idle, nothing else
is kept of the server: no task, no queue, no parser. A frame that has to wait is worked on in a task, and the frames behind it
wait in the same bounded queue as under ASGI.

Internals used, and no others, besides those of ``reader``, ``writer`` and ``parser``: the ``protocol`` of a transport is any
object with ``dataReceived`` and ``connectionLost``; ``abortConnection``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ....realtime.frame_limits import FragmentBudget
from ....realtime.reader import Reader
from ....realtime.writer import Bounds, Writer
from ...adapter import DirectSocket, Pings, PlainConsumer, ServedSocket
from ..reader import BoundedQueue, watch_plainly
from .parser import Parser, Parsers
from .writer import LightWriter

#: What daphne's access log says of a connection: the path, and the client's address.
Access = tuple[str, str | None]


class Home(Protocol):
    """What a connection asks of its server's connections (``sockets``)."""

    parsers: Parsers
    largest: int

    def set_pings(self, pings: Pings) -> None:
        """Ping by these settings, unless the command line has options for that."""

    def ping_payload(self) -> bytes:
        """The payload of the next ping."""

    def expect_answer(self, light: Light) -> None:
        """Cut the connection unless it sends anything in time."""

    def answered(self, light: Light) -> None:
        """The connection has sent something."""

    def lost(self, light: Light) -> None:
        """The transport of the connection is gone."""

    def ended(self, light: Light, problem: BaseException | None) -> None:
        """The consumer of the connection has ended."""


class Light(Reader, DirectSocket):
    """One connection behind its handshake."""

    __slots__ = (
        "_out", "_over", "_parser", "_queue", "_served", "_sockets", "_task", "_timer", "access", "last_seen", "opened_at",
        "pinged", "state", "transport",
    )  # fmt: skip

    STATE_CLOSED, STATE_CLOSING, STATE_OPEN = Parser.STATE_CLOSED, Parser.STATE_CLOSING, Parser.STATE_OPEN

    def __init__(self, sockets: Home, transport: Any, access: Access | None = None) -> None:
        """``access`` is what the access log says of this connection; None without such a log."""
        super().__init__(self._parse_rest, largest=sockets.largest)
        self.transport = transport
        self.state: int = self.STATE_OPEN
        self.access = access
        self.opened_at = self.last_seen = time.time()
        # Whether a ping of the server waits for its answer.
        self.pinged = False
        self._sockets = sockets
        self._served: ServedSocket | None = None
        # Whether the consumer has ended; what comes afterwards is dropped.
        self._over = False
        # Made when they are needed: the queue and the task that works on it, Autobahn, the writer, the end of a close handshake.
        self._queue: BoundedQueue | None = None
        self._task: asyncio.Task[None] | None = None
        self._parser: Parser | None = None
        self._out: LightWriter | None = None
        self._timer: asyncio.TimerHandle | None = None
        watch_plainly(transport)

    # --- for Twisted ------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's names
        """Read bytes from the transport."""
        if self._stopped:
            return
        if self.state != self.STATE_OPEN:
            if self._partial:
                data, self._partial = self._partial + data, b""
            self._parse_rest(data)
            return
        # Any data from the client is a sign of life.
        self.last_seen = time.time()
        if self.pinged:
            self._sockets.answered(self)
        self._feed(data)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """The transport is gone."""
        parser, self._parser = self._parser, None
        code = parser.lost(reason) if parser is not None else 1006
        self.state = self.STATE_CLOSED
        self.stop_writing()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._enqueue({"type": "websocket.disconnect", "code": code})
        self._sockets.lost(self)

    # --- for the consumer -------------------------------------------------------------------------------------------

    def serve(self, consumer: PlainConsumer, scope: Any) -> None:
        """Let ``consumer`` serve this connection."""
        self._begin(self._arrive(consumer, scope))

    def attach(self, budget: FragmentBudget | None, pings: Pings | None) -> Reader:
        """Return this reader; ``pings`` hold where the command line of daphne has none."""
        self._budget = budget
        if pings is not None:
            self._sockets.set_pings(pings)
        return self

    def write_by(self, bounds: Bounds, on_overflow: Callable[[], None]) -> Writer:
        """Make the writer."""
        self._out = writer = LightWriter(self, bounds, on_overflow)
        return writer

    def feed(self, data: bytes) -> None:
        """Read bytes, as from the transport."""
        self.dataReceived(data)

    def discard_input(self, *, flood: bool) -> None:
        """Drop the messages that wait; after a flood nothing more is read."""
        self._bounded().discard(flood=flood)

    def cut(self) -> None:
        """Read nothing more, and end the connection soon."""
        self._bounded().discard(flood=True)

    # --- the work of the consumer -----------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._worked)

    async def _arrive(self, consumer: PlainConsumer, scope: Any) -> None:
        self._served = served = await consumer.arrive(scope, self)
        await self._work(served.open())

    async def _work(self, first: Coroutine[Any, Any, None] | None = None) -> None:
        """Let the consumer do ``first``, and then serve what waits in the queue. Ends when nothing waits."""
        served, code, over = self._served, 1006, True
        if served is None:
            return
        try:
            if first is not None:
                await first
            while self._queue is not None and self._queue.qsize():
                event = self._queue.get_nowait()
                if event["type"] == "websocket.disconnect":
                    code = event["code"] or 1005
                    return
                await served.handle(event)
                event = None
            over = False
        finally:
            if over:
                await self._end(served, code)
            else:
                self._task = None
                if self._queue is not None and not self._queue.closing:
                    self._queue = None

    async def _end(self, served: ServedSocket, code: int) -> None:
        self._over, self._served, self._queue = True, None, None
        await served.end(code)

    def _worked(self, task: asyncio.Task[None]) -> None:
        """A task has ended: report its failure as daphne does."""
        if self._task is task:
            # The consumer has ended, in order or not.
            self._task, self._over = None, True
            self._sockets.ended(self, None if task.cancelled() else task.exception())

    def kill(self) -> asyncio.Task[None] | None:
        """The process ends: end the consumer, as daphne cancels its application."""
        if self._task is not None:
            self._task.cancel()
        elif self._served is not None:
            self._begin(self._end(self._served, 1006))
        return self._task

    @property
    def working(self) -> asyncio.Task[None] | None:
        """The task that works for this connection."""
        return self._task

    # --- the queue --------------------------------------------------------------------------------------------------

    def _bounded(self) -> BoundedQueue:
        queue = self._queue
        if queue is None:
            queue = self._queue = BoundedQueue.of(self.transport, self._is_registered)
        return queue

    def _queued(self) -> int:
        return self._queue.qsize() if self._queue is not None else 0

    def _enqueue(self, event: dict[str, Any]) -> None:
        if self._over:
            return
        self._bounded().put_nowait(event)
        if self._task is None:
            self._begin(self._work())

    #: As Autobahn's parser calls it.
    put_nowait = _enqueue

    # --- closing, and the frames that are not usual -----------------------------------------------------------------

    def _parse_rest(self, data: bytes) -> None:
        """Let Autobahn parse what is not usual."""
        if self.state == self.STATE_CLOSED:
            return
        parser = self._taken()
        parser.dataReceived(data)
        self._settle(parser)

    def _taken(self) -> Parser:
        parser = self._parser
        if parser is None:
            parser = self._parser = self._sockets.parsers.take(self, self.state)
        return parser

    def _settle(self, parser: Parser) -> None:
        """Take over the state of the parser, and give it back where it has nothing more to do."""
        self.state = parser.state
        if parser is self._parser and parser.at_rest():
            self._parser = None
            self._sockets.parsers.give_back(parser)

    def close(self, code: int, timeout: float) -> None:
        """Send a close frame, and cut a client that does not answer it in ``timeout`` seconds."""
        if self.state != self.STATE_OPEN:
            return
        parser = self._taken()
        parser.closeHandshakeTimeout = 0
        parser.sendCloseFrame(code=code)
        self._settle(parser)
        self._timer = asyncio.get_running_loop().call_later(timeout, self._unanswered)

    def _unanswered(self) -> None:
        self._timer = None
        if self.state != self.STATE_CLOSED:
            self.transport.abortConnection()

    def ping(self) -> None:
        """Send a ping; the client has the server's ``ping_timeout`` to answer it."""
        parser = self._taken()
        parser.sendPing(self._sockets.ping_payload())
        self._settle(parser)
        self._sockets.expect_answer(self)

    def stop_writing(self) -> None:
        """Write no more frames: a close frame is about to be sent, or the connection has ended."""
        if self._out is not None:
            self._out.stop()

    def _closing(self) -> bool:
        return bool(self.state != self.STATE_OPEN)

    def _detach(self) -> None:
        if self._queue is not None:
            self._queue.is_registered = bool
        self._out = None
        self._parse = _nothing  # The method holds this object.


def _nothing(_: bytes) -> None:
    """Stands for the parser of a connection that is over."""
