"""Two senders of one node with the same bytes: one with a lane, one without. What comes of it is compared."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import Any

import msgspec

from bus.models import Message
from bus.node import Node
from bus.protocol.limits import TokenBucket
from bus.protocol.session import Session
from bus.protocol.state import State
from bus.realtime.frame import Batch, masked_frame
from bus.sockets import dispatch
from bus.sockets.connection import Connection
from bus.sockets.lane import lane_of
from tests.harness.waiting import wait_for
from tests.realtime.conversations import QueuedReader
from tests.sockets.conftest import KeepingWriter

#: A rate, tokens a second.
SLOW = 1e-6
MASK = b"\x0a\xf1\x80\x07"

_UNLIKE = re.compile(
    rb'arq_[0-9a-f]{14}[0-9a-f]*|"timestamp":"[^"]*"|retry_after":[0-9.e-]+|"epoch":"[^"]*"|"resume_token":"[^"]*"'
)


_PLACE = re.compile(r'"room":"[^"]*","channel":"[^"]*"')


class RawWriter(KeepingWriter):
    """Keeps the frames as they are written."""

    def __init__(self, on_overflow: Any) -> None:
        super().__init__(on_overflow)
        self.raw: list[bytes] = []

    def _write(self, batch: Batch) -> None:
        self.raw += batch.payloads


class Peer:
    """One connection of the node, behind a reader."""

    def __init__(self, node: Node, *, compiled: bool, **query: str) -> None:
        self.connection = Connection(node, None, peer_address="127.0.0.1", query=query)
        self.writer = RawWriter(self.connection.overflow)
        self.connection.writer = self.connection.client.writer = self.writer
        self.reader = QueuedReader()
        # Tokens come so slowly that the time between the two sides makes no difference.
        limits = msgspec.structs.replace(
            self.connection.session.limits, frames_per_second=SLOW, bytes_per_second=SLOW, bad_frames_per_second=SLOW
        )
        self.connection.session = Session(limits, time.monotonic())
        self.lane = lane_of(self.connection) if compiled else None

    async def open(self) -> None:
        """Register, and begin to read."""
        connection = self.connection
        await connection.opened()
        assert connection.client.state is State.REGISTERED
        self.reader.begin(
            self.writer,
            lambda data: dispatch.begin(connection, data),
            lambda reason: None,
            connection.registered,
            self.lane,
        )

    async def feed(self, data: bytes) -> None:
        """Read bytes from the client, and serve what waits."""
        self.reader.feed(data)
        while self.reader.queue:
            event = self.reader.queue.pop(0)
            self.reader.busy = True
            if self.writer.closed:
                pass
            elif event["type"] == "arqonbus.frame":
                await dispatch.finish(self.connection, event["frame"])
            else:
                await dispatch.serve(self.connection, event["bytes"])
            self.reader.busy = False

    @property
    def frames(self) -> list[bytes]:
        """What the client was sent."""
        self.writer.flush()
        return self.writer.raw

    def levels(self) -> list[float]:
        """The levels of its buckets."""
        session = self.connection.session
        buckets = [session._frames, session._bytes, session._shared, session._bad_frames, session._refusals]
        return [round(bucket.level, 3) for bucket in buckets if bucket is not None]


class Side:
    """A sender in a room of its own, and members of its channels. ``name`` has the same length on both sides."""

    def __init__(self, node: Node, name: str, *, compiled: bool) -> None:
        self.node, self.name = node, name
        self.sender = Peer(node, compiled=compiled, client_id=f"ada-{name}", room=name, channel="main")
        self.members = [
            Peer(node, compiled=False, client_id=f"bob-{name}-{channel}", room=name, channel=channel)
            for channel in ("main", "quick", "other")
        ]

    async def open(self) -> None:
        """Connect everybody."""
        for peer in (self.sender, *self.members):
            await peer.open()
        await self.settle()
        for peer in (self.sender, *self.members):
            peer.frames.clear()

    def fill(self, frames: float, shared: float) -> None:
        """Set the tokens that the sender has for its next frames."""
        session = self.sender.connection.session
        session._frames.level = frames
        session.share(TokenBucket(SLOW, shared, time.monotonic()) if shared else None)

    async def send(self, frames: list[bytes], cuts: list[int]) -> None:
        """The sender's frames come, cut into pieces at ``cuts`` (thousandths of the whole)."""
        data = b"".join(
            frame[1:] if frame[:1] == b"\0" else masked_frame(frame.replace(b"ROOM", self.name.encode()), MASK)
            for frame in frames
        )
        places = sorted({len(data) * cut // 1000 for cut in cuts} | {0, len(data)})
        for first, last in pairwise(places):
            await self.sender.feed(data[first:last])

    async def settle(self) -> None:
        """Wait until everything is committed and written."""
        await self.node.publisher.drained()
        self.node.hub.flush()
        await self.node.runtime.writer_idle()
        self.node.hub.flush()

    def _like(self, text: bytes) -> str:
        return _UNLIKE.sub(b"#", text.replace(self.name.encode(), b"ROOM")).decode()

    def outcome(self) -> dict[str, Any]:
        """What came of it, without what differs between any two runs."""
        sender = self.sender
        return {
            "sender": _in_kinds([self._like(frame) for frame in sender.frames]),
            "members": [_in_kinds([self._like(frame) for frame in member.frames]) for member in self.members],
            "to the server": b"".join(sender.reader.passed_on),
            "partial": len(sender.reader._partial),
            "levels": sender.levels(),
            "state": sender.connection.client.state,
            "close code": sender.writer.code,
            "touched": sender.connection.client.touched,
        }

    def rows(self) -> list[tuple[str, int, str, str]]:
        """The rows of its channels."""
        found = Message.objects.filter(channel__room__name=self.name).order_by("channel__name", "seq")
        return [
            (name, seq, self._like(uid.encode()), self._like(frame.encode()))
            for name, seq, uid, frame in found.values_list("channel__name", "seq", "uid", "frame")
        ]


def _in_kinds(frames: list[str]) -> dict[str, list[str]]:
    """The frames by their kinds: what is committed comes sooner or later than the rest, and each log has its own order."""
    kinds: dict[str, list[str]] = {}
    for frame in frames:
        kind = "other"
        if frame.startswith(('{"type":"ack"', '{"version":"1.0","id"')):
            place = _PLACE.search(frame)
            in_no_log = '"seq":null' in frame or '"seq":' not in frame
            kind = f"{frame[:9]} {place[0] if place else ''} {'in no log' if in_no_log else ''}"
        elif "another message with this id" in frame:
            kind = "id taken"  # The commit finds that out, or the memory of what passed.
        kinds.setdefault(kind, []).append(frame)
    return kinds


async def settled(sides: list[Side]) -> None:
    """Wait until the members of both sides have what they get."""
    for side in sides:
        await side.settle()
    await wait_for(lambda: not len(sides[0].node.log), "the log")
