"""What all answers of Server-Sent Events share: who may follow, how the answer is opened, and how it ends.

A follower is a member of the process like a socket's client, with bounds for the data that waits for a slow reader. It is no
client, so presence does not show it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from ..auth import identity
from ..auth.permissions import Actor
from ..directory.channels import ChannelRef
from ..monitoring import metrics
from ..node import Node, current
from ..node.delivery.growing import revoked
from ..protocol.errors import NOT_ALLOWED, RESTART, BusError, ErrorCode
from ..protocol.state import State
from ..sockets.handshake import identify
from ..sockets.origin import request_address
from .authentication import bearer_of
from .errors import bus_error, headers_of, noted, plain_answer
from .guests import Guest
from .listening import body_of
from .permissions import check_caller
from .throttling import take

KIND = "events"
EVENTS = "text/event-stream"

#: The statuses of temporary errors, and the seconds to wait if the error does not have them.
PASSING, PAUSE = frozenset({429, 503}), 5.0

#: These headers keep proxies and middleware from buffering or compressing events. GZipMiddleware would make each part of the
#: answer a separate gzip stream, and browsers read only the first. It leaves an answer with a Content-Encoding alone.
_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no", "Content-Encoding": "identity"}


def event(data: bytes, *, id: str | None = None, name: str | None = None) -> bytes:
    """The bytes of one event. ``data`` is JSON of the bus, which has no line breaks, so it is one line."""
    lines = [b"id: %b\n" % id.encode() if id else b"", b"event: %b\n" % name.encode() if name else b""]
    return b"%bdata: %b\n\n" % (b"".join(lines), data.replace(b"\r", b" ").replace(b"\n", b" "))


class Follower(Guest):
    """One answer of events. :meth:`open` makes all checks that may refuse it; then the response iterates over it."""

    #: The headers of the answer, beyond those of every event stream.
    headers: Mapping[str, str] = {}

    def __init__(self, node: Node, actor: Actor, ref: ChannelRef, scope: dict[str, Any]) -> None:
        super().__init__(node, actor, scope, KIND)
        self.ref = ref
        self._error: BusError | None = None
        self._response: asyncio.Task[Any] | None = None
        self._cut: asyncio.TimerHandle | None = None

    # --- what is followed -------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Get ready for the first frame. Raises ``BusError``."""
        raise NotImplementedError

    def first(self) -> bytes:
        """The first bytes of the answer."""
        return b""

    def events_of(self, frame: bytes) -> bytes:
        """The events of a frame, which may be none."""
        raise NotImplementedError

    async def events(self, frames: list[bytes]) -> bytes:
        """The events of some frames."""
        return b"".join(map(self.events_of, frames))

    @property
    def over(self) -> bool:
        """Whether the last event was given, so that the answer ends."""
        return False

    def last(self, error: BusError) -> bytes:
        """The last bytes of an answer that the server ends, with the reason ``error``."""
        retry = b"retry: %d\n" % int(error.retry_after * 1000) if error.retry_after else b""
        return retry + event(msgspec.json.encode({"error": error.as_dict()}), name="closed")

    # --- its life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the answer.

        Raises ``BusError`` FORBIDDEN, CHANNEL_NOT_FOUND or LIMIT_REACHED, what :meth:`begin` raises, and RESTARTING if the
        request has ended meanwhile. Raises REVOKED if the right to read has.
        """
        client = self.client
        await self.node.rights.check_join(client, self.ref)
        self.enter()
        try:
            client.memberships[self.ref.id] = self.ref
            await self.begin()
            self.require_open()
            if self.ref.id not in client.memberships:
                raise revoked(self.ref.address)
        except BaseException:
            self.leave()
            raise

    def close(self, code: int, error: BusError | None) -> None:
        """End the answer with close code ``code``. The waiting messages are sent first, then ``error`` as the reason.

        After a restart or an overflow the waiting messages are dropped, because the reader resumes from its own position.
        """
        if not self.client.ending:
            self.client.step(State.CLOSING)
            self.client.close_code = code
            self._error = error
            if error is not None:
                metrics.errors.labels(error.code).inc()
            if code == RESTART or self.writer.overflowed:
                # The reader resumes from its position. The dropped messages are in the log.
                self.writer.abort()
                self.writer.close_code = code
            else:
                self.writer.close(code)
            if self._response is not None:
                # Without a deadline, a peer that reads nothing could keep the response open for ever.
                self._cut = self.node.runtime.loop.call_later(self.node.bounds.deadline, self._response.cancel)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        self._response = asyncio.current_task()
        try:
            yield self.first()
            patience = self.node.runtime.settings.ping_interval or 20.0
            while not self.over:
                frames = await self.writer.next_frames(patience)
                if frames:
                    yield await self.events(frames)
                elif self.writer.closed:
                    break
                else:
                    yield b": still here\n\n"
                if self.ref.id not in self.client.memberships:
                    self.close(NOT_ALLOWED, revoked(self.ref.address))
            if self.over:
                self.client.close_code = 1000
            else:
                yield self.last(self._error or BusError(ErrorCode.RESTARTING))
        except TimeoutError:
            return
        finally:
            self.leave()

    def left(self) -> None:
        """Release what :meth:`begin` took. Overriding methods call this one."""
        self.no_member(self.ref.id)
        if self._cut is not None:
            self._cut.cancel()


Made = Callable[[HttpRequest, Node, dict[str, Any]], Awaitable[Follower]]


async def answer(request: HttpRequest, made: Made, *, methods: tuple[str, ...] = ("GET",)) -> HttpResponseBase:
    """The answer to a request for events: the events of the follower that ``made`` opens, or an error in the usual form."""
    if request.method not in methods:
        error = BusError(ErrorCode.METHOD_NOT_ALLOWED, f'Method "{request.method}" is not allowed.')
        return plain_answer(error, request, Allow=", ".join(methods))
    scope = getattr(request, "scope", None)
    try:
        if scope is None:
            raise BusError(ErrorCode.UNAVAILABLE, "Event streams need an ASGI server.")
        node = current()
        await node.start()
        if node.traffic.draining:
            raise BusError(ErrorCode.RESTARTING, retry_after=1.0)
        follower = await made(request, node, scope)
    except Exception as problem:  # noqa: BLE001 - every failure has its answer
        return _refused(bus_error(problem), request)
    headers = {**_HEADERS, **follower.headers}
    return StreamingHttpResponse(body_of(scope, aiter(follower)), content_type=EVENTS, headers=headers)


def _refused(error: BusError, request: HttpRequest) -> HttpResponse:
    """The answer instead of events. For an ``EventSource`` and a temporary error, it is a stream that ends at once.

    An ``EventSource`` gives up for ever on any status but 200, and reconnects when a stream ends. Only it sends GET.
    """
    if error.number not in PASSING or request.method != "GET" or EVENTS not in request.headers.get("Accept", ""):
        return plain_answer(error, request)
    body = b"retry: %d\n" % int((error.retry_after or PAUSE) * 1000)
    answer = HttpResponse(
        body + event(msgspec.json.encode({"error": error.as_dict()}), name="closed"),
        content_type=EVENTS,
        headers={**headers_of(error), **_HEADERS},
    )
    return noted(answer, error, request)


async def caller(request: HttpRequest, node: Node) -> Actor:
    """The actor of a request for events, from its bearer or session.

    Raises ``BusError`` UNAUTHENTICATED, ORIGIN_REFUSED or RATE_LIMITED.
    """
    bearer = bearer_of(request)
    actor = (
        await identify(bearer, node, request_address(request))
        if bearer
        else await node.runtime.run(identity.from_request, request)
    )
    actor = msgspec.structs.replace(actor, address=request_address(request))
    check_caller(request, actor)
    wait = take(actor)
    if wait:
        raise BusError(ErrorCode.RATE_LIMITED, retry_after=wait)
    return actor


def check_query(request: HttpRequest, *known: str) -> None:
    """Check that all query parameters are ``known``. Raises ``BusError`` VALIDATION_ERROR."""
    unknown = sorted(set(request.GET) - set(known))
    if unknown:
        only = f"The only parameter is {' or '.join(known)}."
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": name[:64], "message": f"There is no such parameter. {only}"} for name in unknown],
        )
