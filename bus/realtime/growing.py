"""Streamed messages that grow in the logs of this process: their parts on the way to members and listeners.

Parts wait in the same list as the log's messages. So the opening comes before the parts, and the parts before the end. A member
that lacks earlier parts is ``behind``: it gets no parts until it has got a snapshot (``bus.node.delivery.growing``). So is one
that reads too slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ..protocol.names import INBOX_ROOM
from .frame import Batch
from .hub import Delivery, Hub, Member, Stream
from .writer import Writer

#: Parts, and their bytes, that one message keeps until their predecessors have come.
EARLY, EARLY_BYTES = 500, 1024 * 1024

#: Every end has this in its first bytes. Other messages may have it too.
_END = b'"type":"stream_end"'
#: Bytes of a frame in which the type is. The id comes first, of 160 characters at most.
_HEAD = 1024


class _End(msgspec.Struct):
    type: str
    of: str = ""


_ends = msgspec.json.Decoder(_End)


class PartFrame(msgspec.Struct):
    """A part on its way to the members. ``exclude`` is the connection of its owner."""

    n: int
    frame: bytes
    exclude: Member | None = None


class GrowthDelivery(Delivery):
    """A frame of a streamed message; ``message`` is True for its end, which is a message of the log."""

    of: GrowingMessage
    message: bool = False


class GrowingMessage:
    """A streamed message that is open, as this process sees it."""

    __slots__ = (
        "attempt", "begun", "behind", "early", "early_size", "ended", "have", "id", "listeners", "lost", "owner", "reading",
        "seq", "served", "since", "uid", "waited",
    )  # fmt: skip

    def __init__(self, stream_id: int, uid: str, seq: int, attempt: int, have: int) -> None:
        self.id = stream_id
        self.uid = uid
        #: The seq of its opening.
        self.seq = seq
        self.attempt = attempt
        #: The number of the newest part that was delivered here.
        self.have = have
        #: Whether its opening was delivered here, and whether its end was.
        self.begun = self.ended = False
        #: Whether parts are missing here, so that only a snapshot helps.
        self.lost = False
        #: Members and listeners that get no parts until they have got a snapshot.
        self.behind: dict[Member, Writer] = {}
        #: Those who get this message's frames alone.
        self.listeners: dict[Member, Writer] = {}
        #: The connection whose parts it does not get back.
        self.owner: Member | None = None
        #: Parts that came before their predecessors, or before the opening.
        self.early: dict[int, PartFrame] = {}
        self.early_size = 0
        #: Whether somebody reads it from the database now, and the parts that were delivered since that began.
        self.reading = False
        self.since: list[PartFrame] = []
        #: Those who waited when that reading began. Who waits since a later moment may have more than it finds.
        self.served: set[Member] = set()
        #: Whether a missing predecessor was waited for.
        self.waited = False

    def keep(self, part: PartFrame) -> None:
        """Keep an early part, within the bounds. A part that is left out is read from the database."""
        if part.n not in self.early and len(self.early) < EARLY and self.early_size < EARLY_BYTES:
            self.early[part.n] = part
            self.early_size += len(part.frame)

    def forget_early(self) -> None:
        """Drop the early parts."""
        self.early.clear()
        self.early_size = 0

    def begin_attempt(self, attempt: int) -> None:
        """Note that the message has a new owner. Parts of the former one do not count any more."""
        self.attempt = attempt
        self.owner = None
        self.forget_early()
        self.since.clear()


class LogGrowth:
    """The growing messages of one log. ``on_behind`` is called with the stream and a message that members lack parts of.

    ``on_ended`` is called with the uid of a message whose end is delivered.
    """

    def __init__(
        self, hub: Hub, on_behind: Callable[[Stream, GrowingMessage], None], on_ended: Callable[[str], None]
    ) -> None:
        self._hub = hub
        self._on_behind = on_behind
        self._on_ended = on_ended
        #: The open messages, by uid.
        self.messages: dict[str, GrowingMessage] = {}

    def listeners(self) -> list[Member]:
        """Those who listen to one of the messages alone."""
        return [member for message in self.messages.values() for member in message.listeners]

    # --- messages and parts ---------------------------------------------------------------------------------------------

    def put(self, stream: Stream, seq: int, frame: bytes, exclude: Member | None) -> None:
        """Send the next message of the log. It may be the opening or the end of a growing one."""
        ended = self._ended_by(frame)
        if ended is not None:
            del self.messages[ended.uid]
            ended.ended = True
            self._hub.enqueue(stream, GrowthDelivery(frame, exclude, ended, message=True))
            self._on_ended(ended.uid)
            return
        self._hub.enqueue(stream, Delivery(frame, exclude))
        for message in list(self.messages.values()):
            if message.seq == seq:
                self.begin(stream, message)

    def _ended_by(self, frame: bytes) -> GrowingMessage | None:
        if frame.find(_END, 0, _HEAD) < 0:
            return None
        try:
            end = _ends.decode(frame)
        except msgspec.DecodeError:
            return None
        return self.messages.get(end.of) if end.type == "stream_end" else None

    def begin(self, stream: Stream, message: GrowingMessage) -> None:
        """Note that the opening of ``message`` was delivered. Those who are members now get its parts from here on."""
        if not message.begun:
            message.begun = True
            if message.have or message.lost:
                self.lag(stream, message)
            elif message.behind:
                self._on_behind(stream, message)
            self.deliver_early(stream, message)

    def deliver(self, stream: Stream, message: GrowingMessage, part: PartFrame) -> None:
        """Deliver the next part, and the early ones after it."""
        self._deliver(stream, message, part)
        if message.early:
            self.deliver_early(stream, message)

    def deliver_early(self, stream: Stream, message: GrowingMessage) -> None:
        """Deliver the early parts that are next, and drop those that came late."""
        early = message.early
        while (part := early.pop(message.have + 1, None)) is not None:
            message.early_size -= len(part.frame)
            self._deliver(stream, message, part)
        for n in [n for n in early if n <= message.have]:
            message.early_size -= len(early.pop(n).frame)

    def _deliver(self, stream: Stream, message: GrowingMessage, part: PartFrame) -> None:
        message.have = part.n
        message.waited = False
        if part.exclude is not message.owner:
            self._change_owner(stream, message, part.exclude)
        if message.reading:
            message.since.append(part)
        self._hub.enqueue(stream, GrowthDelivery(part.frame, part.exclude, message))

    def _change_owner(self, stream: Stream, message: GrowingMessage, owner: Member | None) -> None:
        """Note whose parts come from now on. A former owner is a reader as others, and lacks what it sent itself."""
        former, message.owner = message.owner, owner
        if former is not None:
            self.lag(stream, message, [former])

    def announce(self, stream: Stream, message: GrowingMessage, frame: bytes) -> None:
        """Send a frame of ``message`` to everybody who gets its parts."""
        self._hub.enqueue(stream, GrowthDelivery(frame, None, message))

    # --- members and listeners ------------------------------------------------------------------------------------------

    def added(self, stream: Stream, member: Member) -> None:
        """Let a new member wait for a snapshot of each message."""
        for message in self.messages.values():
            message.behind.pop(member, None)
            message.served.discard(member)
            self.lag(stream, message, [member])

    def removed(self, member: Member) -> None:
        """Forget a member, or a listener."""
        for message in self.messages.values():
            message.behind.pop(member, None)
            message.served.discard(member)
            message.listeners.pop(member, None)
            if message.owner is member:
                message.owner = None

    def listen(self, stream: Stream, message: GrowingMessage, member: Member) -> None:
        """Let ``member`` get the frames of one message alone: a snapshot, the parts and the end."""
        self._hub.flush_stream(stream)
        message.listeners[member] = member.writer
        self._fall_behind(stream, message, {member: member.writer})

    def lag(self, stream: Stream, message: GrowingMessage, members: Sequence[Member] | None = None) -> None:
        """Let ``members`` (None: everybody but the owner) wait for a snapshot."""
        self._hub.flush_stream(stream)
        deaf = stream.deaf or {}
        if members is None:
            found = {m: w for m, w in stream.members.items() if m not in deaf and m is not message.owner}
            found |= message.listeners
        else:
            found = {member: member.writer for member in members if member in stream.members and member not in deaf}
        if stream.room == INBOX_ROOM:
            found = {member: writer for member, writer in found.items() if not _withheld(message, member)}
        self._fall_behind(stream, message, found)

    def _fall_behind(self, stream: Stream, message: GrowingMessage, members: dict[Member, Writer]) -> None:
        if members:
            message.behind |= members
            if message.begun:
                self._on_behind(stream, message)

    # --- the fan-out ----------------------------------------------------------------------------------------------------

    def fan_out(self, stream: Stream, pending: list[Delivery]) -> bool:
        """Hand the frames of one turn to the writers. False, and nothing done, where there are only usual messages."""
        grown: dict[GrowingMessage, list[GrowthDelivery]] = {}
        for delivery in pending:
            if isinstance(delivery, GrowthDelivery):
                grown.setdefault(delivery.of, []).append(delivery)
        if not self.messages:
            stream.growing = None
        if not grown:
            return False
        self._to_members(stream, pending, grown)
        for message, deliveries in grown.items():
            if message.listeners:
                self._to_listeners(stream, message, deliveries)
        return True

    def _to_members(
        self, stream: Stream, pending: list[Delivery], grown: dict[GrowingMessage, list[GrowthDelivery]]
    ) -> None:
        hub, deaf = self._hub, stream.deaf or {}
        whole = Batch([delivery.frame for delivery in pending])
        size, frames = _weight(delivery for some in grown.values() for delivery in some)
        excluded = {delivery.exclude for delivery in pending if delivery.exclude is not None}
        behind = {member for message in grown for member in message.behind}
        # Those who get the parts of some messages only.
        partly = behind
        if stream.room == INBOX_ROOM:
            partly = behind | {m for m in stream.members if any(_withheld(message, m) for message in grown)}
        slow: dict[Member, Writer] = {}
        some: dict[tuple[bool, ...], Batch] = {}
        for member, writer in stream.members.items():
            usual = not (member in excluded or member in partly or member in deaf)
            if frames and member not in deaf and writer.crowded(size, frames):
                slow[member] = writer
                usual = False
            if usual:
                batch = whole
            else:
                if member in slow or member in behind:
                    hub.skipped += sum(_is_left_out(member, delivery, slow) for delivery in pending)
                wanted = tuple(_gets(member, delivery, deaf, slow, stream) for delivery in pending)
                batch = some.get(wanted) or some.setdefault(
                    wanted, Batch([d.frame for d, yes in zip(pending, wanted, strict=True) if yes])
                )
                if not batch.payloads:
                    continue
            hub.delivered += len(batch.payloads)
            hub.delivered_bytes += len(batch.wire)
            writer.write(batch)
        if slow:
            self._skip(stream, grown, slow)

    def _to_listeners(self, stream: Stream, message: GrowingMessage, deliveries: list[GrowthDelivery]) -> None:
        hub, slow = self._hub, {}
        size, frames = _weight(deliveries)
        whole = Batch([delivery.frame for delivery in deliveries])
        end = Batch([delivery.frame for delivery in deliveries if delivery.message])
        for member, writer in message.listeners.items():
            if member in message.behind or (frames and writer.crowded(size, frames)):
                slow[member] = writer
                hub.skipped += frames
                batch = end
            else:
                batch = whole
            if batch.payloads:
                hub.delivered += len(batch.payloads)
                hub.delivered_bytes += len(batch.wire)
                writer.write(batch)
        if slow:
            self._skip(stream, {message: deliveries}, slow)

    def _skip(
        self,
        stream: Stream,
        grown: dict[GrowingMessage, list[GrowthDelivery]],
        slow: dict[Member, Writer],
    ) -> None:
        """Let members whose writers are crowded wait for a snapshot instead of these parts."""
        for message, deliveries in grown.items():
            parts = any(not delivery.message for delivery in deliveries)
            if parts and not message.ended:
                message.behind |= {
                    member: writer
                    for member, writer in slow.items()
                    if member is not message.owner and not (stream.room == INBOX_ROOM and _withheld(message, member))
                }
                self._on_behind(stream, message)


def _weight(deliveries: object) -> tuple[int, int]:
    """The bytes and the number of the frames that a member can do without."""
    sizes = [len(d.frame) for d in deliveries if not d.message]  # type: ignore[attr-defined]
    return sum(sizes), len(sizes)


def _is_left_out(member: Member, delivery: Delivery, slow: dict[Member, Writer]) -> bool:
    if not isinstance(delivery, GrowthDelivery) or delivery.message or delivery.exclude is member:
        return False
    return member in slow or member in delivery.of.behind


def _withheld(message: GrowingMessage, member: Member) -> bool:
    """Return whether a message in an inbox is for an earlier client with the id of ``member``."""
    floor: int = getattr(member, "inbox_floor", 0)
    return message.seq <= floor


def _gets(
    member: Member, delivery: Delivery, deaf: dict[Member, None], slow: dict[Member, Writer], stream: Stream
) -> bool:
    if delivery.exclude is member:
        return False
    if not isinstance(delivery, GrowthDelivery) or delivery.message:
        return True
    if stream.room == INBOX_ROOM and _withheld(delivery.of, member):
        return False
    return not (member in deaf or member in slow or member in delivery.of.behind)
