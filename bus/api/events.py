"""A channel as Server-Sent Events, for clients that cannot use sockets (docs/rest.md, Events).

For delivery, a stream is a member of the channel. It gets the messages after ``Last-Event-ID`` from the log, and then live
messages, without a gap and without a duplicate. The data that waits for a slow reader is bounded. The stream ends when the right
to read ends, and when the process drains. It is no client, so presence does not show it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from rest_framework.request import Request
from rest_framework.response import Response

from ..auth import identity
from ..auth.permissions import Actor
from ..conf.settings import anonymous_allowed
from ..db.faults import without_transaction
from ..directory.channels import ChannelRef
from ..monitoring import metrics
from ..node import ClientState, Node, current
from ..protocol.errors import NOT_ALLOWED, RESTART, SLOW, BusError, Closing, ErrorCode
from ..protocol.kept import legible
from ..protocol.names import inbox
from ..protocol.routing import channel_not_found
from ..protocol.state import State
from ..realtime.event_writer import EventWriter
from ..realtime.hub import Stream
from ..servers.registry import backlog_of
from ..services import clients as client_service
from ..sockets.handshake import identify
from ..sockets.origin import check_page, request_address
from .authentication import bearer_of
from .endings import ending_of
from .errors import bus_error, headers_of, noted, plain_answer
from .listening import body_of
from .queries import PositionField
from .schema import ADDRESS, LAST_EVENT_ID, SINCE, operation
from .throttling import take
from .views.base import BusView, address_of

KIND = "events"
EVENTS = "text/event-stream"

#: The statuses of temporary errors, and the seconds to wait if the error does not have them.
PASSING, PAUSE = frozenset({429, 503}), 5.0

#: These headers keep proxies and middleware from buffering or compressing events. GZipMiddleware would make each part of the
#: answer a separate gzip stream, and browsers read only the first. It leaves an answer with a Content-Encoding alone.
_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no", "Content-Encoding": "identity"}


class _Head(msgspec.Struct):
    """The keys of a frame that its event needs."""

    seq: int | None = None
    type: str = ""


_heads = msgspec.json.Decoder(_Head)


def event(data: bytes, *, id: str | None = None, name: str | None = None) -> bytes:
    """The bytes of one event. ``data`` is JSON of the bus, which has no line breaks, so it is one line."""
    lines = [b"id: %b\n" % id.encode() if id else b"", b"event: %b\n" % name.encode() if name else b""]
    return b"%bdata: %b\n\n" % (b"".join(lines), data.replace(b"\r", b" ").replace(b"\n", b" "))


class EventStream:
    """One event stream. :meth:`open` makes all checks that may refuse it; then the response iterates over it."""

    def __init__(self, node: Node, actor: Actor, ref: ChannelRef, scope: dict[str, Any]) -> None:
        self._node = node
        self._ref = ref
        self._error: BusError | None = None
        self._stream: Stream
        self.writer = EventWriter(node.bounds, self._overflow, backlog_of(scope.get("arqonbus.send")))
        self.client = ClientState(secrets.token_hex(8), actor, kind=KIND, peer_address=actor.address)
        self.client.writer = self.writer
        self.client.drop = self.close
        self._replay: asyncio.Task[None] | None = None
        self._response: asyncio.Task[Any] | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._ending = ending_of(scope)
        self._first = b""

    async def open(self, since: int | str | None, epoch: str | None) -> None:
        """Open the stream at ``since``, a seq or an ISO time of the log with ``epoch``. None means the next message.

        Raises ``BusError`` FORBIDDEN, CHANNEL_NOT_FOUND, VALIDATION_ERROR or LIMIT_REACHED, and RESTARTING if the request has
        ended meanwhile.
        """
        node, client, ref = self._node, self.client, self._ref
        await node.rights.check_join(client, ref)
        try:
            node.admission.enter(client)
        except Closing as closing:
            raise closing.error from None
        metrics.connections.labels(KIND).inc()
        metrics.connections_total.labels(KIND).inc()
        # If the request is cancelled before its answer begins, only this callback cleans up.
        self._ending.then(self._leave)
        try:
            client.step(State.SERVED)
            node.admission.registered(client)
            node.rights.identified(client)
            client.memberships[ref.id] = ref
            (self._stream,) = await node.streams.open([ref])
            told: dict[str, Any] = {"room": ref.address.room, "channel": ref.address.channel}
            position = None
            if since is not None:
                place = await node.replays.start_for(client, ref, self._stream, since, epoch)
                position, told["recovered"], first = place
                if first is not None:
                    told["first_seq"] = first
            if position is None:
                position = self._stream.head
            position = max(position, client.inbox_floor)
            if self._ending.over:
                # Behind a synchronous middleware the view goes on after its request has ended.
                raise BusError(ErrorCode.RESTARTING, "The request has ended.")
        except BaseException:
            self._leave()
            raise
        told |= {"epoch": self._stream.epoch, "seq": position}
        self._first = b"retry: 2000\n" + event(msgspec.json.encode(told), id=self._id(position), name="subscribed")
        self._replay = asyncio.create_task(self._catch_up(position))

    def _id(self, seq: int) -> str:
        return f"{self._stream.epoch}:{seq}"

    async def _catch_up(self, position: int) -> None:
        try:
            await self._node.replays.replay(
                self.client, self._stream, position, lambda: self._ref.id in self.client.memberships
            )
        except Closing as closing:
            self.close(closing.close_code, closing.error)
        except Exception as problem:  # noqa: BLE001 - the reader gets the error and reconnects
            self.close(SLOW, bus_error(problem))

    def _overflow(self) -> None:
        self._node.runtime.loop.call_soon(self.close, SLOW, BusError(ErrorCode.TOO_SLOW, retry_after=1.0))

    def close(self, code: int, error: BusError | None) -> None:
        """End the stream with close code ``code``. The waiting messages are sent first, then ``error`` as the reason.

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
                self._cut = self._node.runtime.loop.call_later(self._node.bounds.deadline, self._response.cancel)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        self._response = asyncio.current_task()
        try:
            yield self._first
            patience = self._node.runtime.settings.ping_interval or 20.0
            while True:
                frames = await self.writer.next_frames(patience)
                if frames:
                    yield b"".join(map(self._event, frames))
                elif self.writer.closed:
                    break
                else:
                    yield b": still here\n\n"
                if self._ref.id not in self.client.memberships:
                    self.close(NOT_ALLOWED, BusError(ErrorCode.REVOKED, f"You can no longer read {self._ref.address}."))
            yield self._last()
        except TimeoutError:
            return
        finally:
            self._leave()

    def _event(self, frame: bytes) -> bytes:
        try:
            head = _heads.decode(frame)
        except msgspec.DecodeError:
            # The frame is from a process of an older version.
            frame = legible(frame)
            head = _heads.decode(frame)
        if head.seq is not None:
            return event(frame, id=self._id(head.seq))
        # A frame without a seq, such as presence, is not in the log.
        return event(frame, name=None if self._ref.ephemeral and head.type != "system" else "system")

    def _last(self) -> bytes:
        error = self._error or BusError(ErrorCode.RESTARTING)
        retry = b"retry: %d\n" % int(error.retry_after * 1000) if error.retry_after else b""
        return retry + event(msgspec.json.encode({"error": error.as_dict()}), name="closed")

    def _leave(self) -> None:
        """Release everything that the stream holds. A second call does nothing."""
        node, client = self._node, self.client
        if client.state is State.CLOSED:
            return
        client.step(State.CLOSED)
        self.writer.abort()
        if self._replay is not None:
            self._replay.cancel()
        if self._cut is not None:
            self._cut.cancel()
        client.memberships.pop(self._ref.id, None)
        stream = node.hub.stream(self._ref.id)
        if stream is not None:
            node.hub.remove(stream, client)
        metrics.connections.labels(KIND).dec()
        metrics.disconnects.labels(str(client.close_code or 1006)).inc()
        node.admission.leave(client)


async def caller(request: HttpRequest, node: Node) -> Actor:
    """The actor of a request for a stream, from its bearer or session.

    Raises ``BusError`` UNAUTHENTICATED, ORIGIN_REFUSED or RATE_LIMITED.
    """
    bearer = bearer_of(request)
    actor = (
        await identify(bearer, node, request_address(request))
        if bearer
        else await node.runtime.run(identity.from_request, request)
    )
    actor = msgspec.structs.replace(actor, address=request_address(request))
    if actor.anonymous:
        if not anonymous_allowed():
            raise BusError(ErrorCode.UNAUTHENTICATED)
        check_page(request)
    wait = take(actor)
    if wait:
        raise BusError(ErrorCode.RATE_LIMITED, retry_after=wait)
    return actor


def position_of(request: HttpRequest) -> tuple[int | str | None, str | None]:
    """The position of the reader: ``(seq or ISO time, epoch)``. ``Last-Event-ID`` overrides ``since``.

    Raises ``BusError`` VALIDATION_ERROR.
    """
    unknown = set(request.GET) - {"since"}
    if unknown:
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            details=[
                {"field": name[:64], "message": "There is no such parameter. The only parameter is since."}
                for name in unknown
            ],
        )
    header = request.headers.get("Last-Event-ID", "").strip()
    if header:
        epoch, colon, seq = header.rpartition(":")
        if not (seq.isascii() and seq.isdecimal() and len(seq) < 19):
            raise BusError(
                ErrorCode.VALIDATION_ERROR,
                details=[{"field": "Last-Event-ID", "message": "This must be the id of an event, <epoch>:<seq>."}],
            )
        return int(seq), epoch if colon else None
    try:
        since = PositionField(required=False).clean(request.GET.get("since"))
    except ValidationError as problem:
        raise BusError(
            ErrorCode.VALIDATION_ERROR, details=[{"field": "since", "message": problem.messages[0]}]
        ) from None
    return since.isoformat() if isinstance(since, datetime) else since, None


@without_transaction
async def channel_events(request: HttpRequest, address: str) -> HttpResponseBase:
    """The view for ``/channels/{address}/events``: a stream of events, or an error in the usual form."""
    if request.method != "GET":
        error = BusError(ErrorCode.METHOD_NOT_ALLOWED, f'Method "{request.method}" is not allowed.')
        return plain_answer(error, request, Allow="GET")
    scope = getattr(request, "scope", None)
    try:
        if scope is None:
            raise BusError(ErrorCode.UNAVAILABLE, "Event streams need an ASGI server.")
        where = address_of(address)
        node = current()
        await node.start()
        if node.traffic.draining:
            raise BusError(ErrorCode.RESTARTING, retry_after=1.0)
        actor = await caller(request, node)
        since, epoch = position_of(request)
        floor = 0
        if where.is_inbox:
            actor, floor = await node.runtime.run(_as_owner, actor, where.channel)
        ref = await node.channels.resolve(where, actor, create=False)
        stream = EventStream(node, actor, ref, scope)
        stream.client.inbox_floor = floor
        await stream.open(since, epoch)
    except Exception as problem:  # noqa: BLE001 - every failure has its answer
        return _refused(bus_error(problem), request)
    return StreamingHttpResponse(body_of(scope, aiter(stream)), content_type=EVENTS, headers=_HEADERS)


def _refused(error: BusError, request: HttpRequest) -> HttpResponse:
    """The answer instead of a stream. For an ``EventSource`` and a temporary error, it is a stream that ends at once.

    An ``EventSource`` gives up for ever on any status but 200, and reconnects when a stream ends.
    """
    if error.number not in PASSING or EVENTS not in request.headers.get("Accept", ""):
        return plain_answer(error, request)
    body = b"retry: %d\n" % int((error.retry_after or PAUSE) * 1000)
    answer = HttpResponse(
        body + event(msgspec.json.encode({"error": error.as_dict()}), name="closed"),
        content_type=EVENTS,
        headers={**headers_of(error), **_HEADERS},
    )
    return noted(answer, error, request)


def _as_owner(actor: Actor, client_id: str) -> tuple[Actor, int]:
    """``actor`` with ``client_id``, and the seq after which it may read that client's inbox.

    Raises ``BusError`` CHANNEL_NOT_FOUND if the inbox belongs to another client.
    """
    floor = client_service.inbox_floor(actor, client_id)
    if floor is None:
        raise channel_not_found(inbox(client_id))
    return msgspec.structs.replace(actor, client_id=client_id), floor


class ChannelEvents(BusView):
    """The description of :func:`channel_events` in the OpenAPI document."""

    @operation(
        "channel_events",
        "Stream a channel (Server-Sent Events)",
        OpenApiTypes.STR,
        tag="events",
        parameters=[ADDRESS, LAST_EVENT_ID, SINCE],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.LIMIT_REACHED, ErrorCode.RESTARTING),
        streaming=True,
    )
    def get(self, request: Request, address: str) -> Response:
        """The new messages of a channel. Each is an event: its `data` is the message, and its `id` the position.

        A browser's `EventSource` reconnects by itself with `Last-Event-ID`. It gets the missed messages in order, and then new
        ones. Without a position the stream begins with the next message. The first event, `subscribed`, gives the start. If the
        log does not reach back to the position, it says `"recovered": false` and the first seq that is left. Presence comes as
        `system` events. A `closed` event gives the reason why the server ends the stream. Comments keep the connection alive.

        Temporary errors (429, 503) have status 200 for clients that accept `text/event-stream`, because an `EventSource` gives
        up on any other status. Their stream only has `retry` and a `closed` event.
        """
        raise TypeError("This view only describes the address; `channel_events` answers requests.")


channel_events.cls = ChannelEvents  # type: ignore[attr-defined] # where drf-spectacular looks
channel_events.initkwargs = {}  # type: ignore[attr-defined]
channel_events.csrf_exempt = True  # type: ignore[attr-defined] # it changes nothing
