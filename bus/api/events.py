"""A channel as Server-Sent Events, for clients that cannot use sockets (docs/rest.md, Events).

A follower is a member of the channel. It gets the messages after ``Last-Event-ID`` from the log, and then live messages,
without a gap and without a duplicate. The answer ends when the right to read ends, and when the process drains.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from rest_framework.request import Request
from rest_framework.response import Response

from ..auth.permissions import Actor
from ..db.faults import without_transaction
from ..directory.channels import ChannelRef
from ..node import Node
from ..protocol.errors import SLOW, BusError, Closing, ErrorCode
from ..protocol.kept import legible
from ..protocol.registration import MARK
from ..realtime.hub import Stream
from ..services.clients import as_owner
from .errors import bus_error
from .following import Follower, answer, caller, check_query, event
from .queries import PositionField
from .schema import ADDRESS, LAST_EVENT_ID, SINCE, operation
from .views.base import BusView, address_of


class _Head(msgspec.Struct):
    """The keys of a frame that its event needs."""

    seq: int | None = None
    type: str = ""
    snapshot: bool = False


_heads = msgspec.json.Decoder(_Head)


def read(frame: bytes) -> tuple[bytes, _Head]:
    """A frame that every parser can read, and the keys of it that its event needs."""
    try:
        return frame, _heads.decode(frame)
    except msgspec.DecodeError:
        # The frame is from a process of an older version.
        frame = legible(frame)
        return frame, _heads.decode(frame)


class ChannelFollower(Follower):
    """A follower of a channel's messages from ``since`` on: a seq or an ISO time of the log with ``epoch``, or ``mark``.

    ``since`` None means the next message. ``floor`` is the seq after which the actor may read, in an inbox.
    """

    def __init__(
        self,
        node: Node,
        actor: Actor,
        ref: ChannelRef,
        scope: dict[str, Any],
        *,
        since: int | str | None,
        epoch: str | None,
        floor: int,
    ) -> None:
        super().__init__(node, actor, ref, scope)
        self.client.inbox_floor = floor
        #: Whether the log reached back to the follower's position.
        self.recovered = True
        self._since = since
        self._epoch = epoch
        self._stream: Stream
        self._first = b""
        self._replay: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Find the place in the log, and read on from there. Raises ``BusError`` VALIDATION_ERROR."""
        node, client, ref = self.node, self.client, self.ref
        (self._stream,) = await node.streams.open([ref])
        told: dict[str, Any] = {"room": ref.address.room, "channel": ref.address.channel}
        position = None
        since, epoch = self._since, self._epoch
        if since == MARK:
            marked = await node.marks.begin(client, ref)
            since, epoch = (None, None) if marked is None else (marked.seq, marked.epoch)
        if since is not None:
            place = await node.replays.start_for(client, ref, self._stream, since, epoch)
            position, told["recovered"], first = place
            self.recovered = place.recovered
            if first is not None:
                told["first_seq"] = first
        if position is None:
            position = self._stream.head
        position = max(position, client.inbox_floor)
        told |= {"epoch": self._stream.epoch, "seq": position}
        self._first = b"retry: 2000\n" + event(msgspec.json.encode(told), id=self._id(position), name="subscribed")
        self._replay = asyncio.create_task(self._catch_up(position))

    def first(self) -> bytes:
        """The time to wait before a new connection, and the place where the events begin."""
        return self._first

    def left(self) -> None:
        """End the replay."""
        super().left()
        if self._replay is not None:
            self._replay.cancel()

    def _id(self, seq: int) -> str:
        return f"{self._stream.epoch}:{seq}"

    async def _catch_up(self, position: int) -> None:
        try:
            await self.node.replays.replay(
                self.client, self._stream, position, lambda: self.ref.id in self.client.memberships
            )
        except Closing as closing:
            self.close(closing.close_code, closing.error)
        except Exception as problem:  # noqa: BLE001 - the reader gets the error and reconnects
            self.close(SLOW, bus_error(problem))
        finally:
            self._replay = None

    def events_of(self, frame: bytes) -> bytes:
        """The event of a message, or of another frame for members."""
        frame, head = read(frame)
        if head.seq is not None:
            return event(frame, id=self._id(head.seq))
        if head.type == "append":
            return event(frame, name="snapshot" if head.snapshot else "append")
        # A frame without a seq, such as presence, is not in the log.
        return event(frame, name=None if self.ref.ephemeral and head.type != "system" else "system")


def position_of(request: HttpRequest) -> tuple[int | str | None, str | None]:
    """The position of the reader: ``(seq, ISO time or mark, epoch)``. ``Last-Event-ID`` overrides ``since``.

    Raises ``BusError`` VALIDATION_ERROR.
    """
    check_query(request, "since")
    header = request.headers.get("Last-Event-ID", "").strip()
    if header:
        epoch, colon, seq = header.rpartition(":")
        if not (seq.isascii() and seq.isdecimal() and len(seq) < 19):
            raise BusError(
                ErrorCode.VALIDATION_ERROR,
                details=[{"field": "Last-Event-ID", "message": "This must be the id of an event, <epoch>:<seq>."}],
            )
        return int(seq), epoch if colon else None
    if request.GET.get("since") == MARK:
        return MARK, None
    try:
        since = PositionField(required=False).clean(request.GET.get("since"))
    except ValidationError as problem:
        raise BusError(
            ErrorCode.VALIDATION_ERROR, details=[{"field": "since", "message": problem.messages[0]}]
        ) from None
    return since.isoformat() if isinstance(since, datetime) else since, None


@without_transaction
async def channel_events(request: HttpRequest, address: str) -> HttpResponseBase:
    """The view for ``/channels/{address}/events``: events, or an error in the usual form."""

    async def made(request: HttpRequest, node: Node, scope: dict[str, Any]) -> Follower:
        where = address_of(address)
        actor = await caller(request, node)
        since, epoch = position_of(request)
        floor = 0
        if where.is_inbox:
            actor, floor = await node.runtime.run(as_owner, actor, where.channel)
        ref = await node.channels.resolve(where, actor, create=False)
        follower = ChannelFollower(node, actor, ref, scope, since=since, epoch=epoch, floor=floor)
        await follower.open()
        return follower

    return await answer(request, made)


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
        log does not reach back to the position, it says `"recovered": false` and the first seq that is left. With `since=mark`
        the stream begins at the caller's mark, which it gets at its first visit. Presence comes as
        `system` events, and what is added to streamed messages as `append` and `snapshot` events. A `closed` event gives the
        reason why the server ends the stream. Comments keep the connection alive.

        Temporary errors (429, 503) have status 200 for clients that accept `text/event-stream`, because an `EventSource` gives
        up on any other status. Their stream only has `retry` and a `closed` event.
        """
        raise TypeError("This view only describes the address; `channel_events` answers requests.")


channel_events.cls = ChannelEvents  # type: ignore[attr-defined] # where drf-spectacular looks
channel_events.initkwargs = {}  # type: ignore[attr-defined]
channel_events.csrf_exempt = True  # type: ignore[attr-defined] # it changes nothing
