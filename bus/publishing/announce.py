"""Step 4, announce: a committed message goes to the streams of this process, the other processes and signals.

The sender gets its ack or error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec

from .. import signals
from .._speed import core
from ..directory.channels import ChannelRef
from ..log import Entry, Passed
from ..notify import dispatch
from ..notify import messages as notifications
from ..notify.broker import Broker
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import INBOX_ROOM, Address, inbox
from ..realtime.hub import Hub, Member
from ..shapes import Published
from . import streamed
from .commit import passed
from .growth import Here, Outbox
from .jobs import ready_jobs
from .plan import INBOXES, Plan


def published(entry: Entry, *, unproven: bool = False) -> Published:
    """The result of a committed entry, for a publisher without a socket."""
    address: Address = entry.context.address
    made = Published(entry.uid, address.room, address.channel, entry.seq, entry.duplicate, unproven)
    if entry.swallowed:
        return msgspec.structs.replace(made, kept=False)
    if entry.effect is None:
        return made
    return msgspec.structs.replace(made, stream=streamed.place_of(entry), steered=streamed.steered(entry))


class Publisher(Protocol):
    """The connection of a private message's sender, as far as the answer needs it."""

    def send(self, frame: bytes) -> None:
        """Send ``frame`` to the client."""
        ...

    def error(self, problem: BusError, request_id: str | None) -> None:
        """Send an error to the client. ``request_id`` is the id of its message."""
        ...


class Answer:
    """The one ack or error for a message with several copies. It is sent when all copies have their result."""

    __slots__ = ("_duplicates", "_error", "_growth", "_left", "_plan", "_publisher", "_seqs")

    def __init__(self, publisher: Publisher, plan: Plan) -> None:
        self._publisher = publisher
        self._plan = plan
        self._left = len(plan.refs)
        self._error: BusError | None = None
        self._seqs: dict[str, int | None] = {}
        self._duplicates = 0
        self._growth = b""

    def done(self, entry: Entry) -> None:
        """Note the result of one copy. The last copy sends the answer."""
        self._left -= 1
        self._error = entry.error or self._error
        self._seqs[entry.context.address.channel] = entry.seq
        self._duplicates += entry.duplicate
        self._growth = streamed.told(entry)
        if not self._left:
            self._send()

    def _send(self) -> None:
        plan, seqs = self._plan, self._seqs
        if self._error is not None:
            self._publisher.error(self._error, plan.inbound.id)
        elif plan.inbound.ack:
            duplicate = self._duplicates == len(seqs)
            if len(plan.refs) + len(plan.unknown) == 1:
                ((target, seq),) = seqs.items()
                place, targets = inbox(target), None
            else:
                place, seq, targets = INBOXES, None, seqs
            self._publisher.send(
                frames.ack(
                    plan.inbound.id,
                    place,
                    seq,
                    duplicate=duplicate,
                    targets=targets,
                    unproven=plan.unproven,
                    growth=self._growth,
                )
            )


class Announcer:
    """Announces the messages of one event loop. All calls come from that loop, and none of them waits.

    ``deliver(channel_id, seq, frame, exclude)`` puts a committed message on its stream. ``meet_inbox`` gets an inbox, its epoch
    and the frame before a private message is delivered. ``log_gone`` gets a channel that the commit found deleted. ``here`` gets
    what happens to streamed messages. ``jobs_ready`` gets how many jobs of which channels became ready in this process.
    """

    def __init__(
        self,
        hub: Hub,
        broker: Broker,
        *,
        deliver: Callable[[int, int, bytes, Member | None], None],
        meet_inbox: Callable[[ChannelRef, str, bytes], None],
        log_gone: Callable[[ChannelRef], None],
        here: Here | None = None,
        jobs_ready: Callable[[list[tuple[int, int]]], None] | None = None,
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._deliver = deliver
        self._meet_inbox = meet_inbox
        self._log_gone = log_gone
        self._here = here
        self._jobs_ready = jobs_ready
        # Whether an entry of the present transaction has an effect.
        self._effects = False
        # The ids of the ephemeral messages that reached this process, and of those that its members have received.
        self._passed = passed()
        self._delivered = Passed()
        #: Messages published in this process.
        self.published = 0
        #: Parts of streamed messages committed in this process.
        self.parts = 0
        #: The server's own messages (telemetry) among them, which no client sent.
        self.own = 0
        #: Messages of ephemeral channels since the last heartbeat. No log counts them.
        self.passed = 0

    @property
    def client_messages(self) -> int:
        """The number of messages published in this process, without the server's own."""
        return max(self.published - self.own, 0)

    def committed(self, entries: list[Entry]) -> None:
        """Announce the entries of one transaction of the log."""
        outbox = Outbox(None if self._broker.alone else self._broker.send)
        facts: list[Fact] = []
        self._effects = False
        announce = partial(self._announce, outbox, facts)
        if core is not None and self._broker.alone and not signals.message_published.receivers:
            # In two steps: what it calls counts, too.
            usual = core.put_all(self._hub, entries, announce)
            self.published += usual
        else:
            for entry in entries:
                announce(entry)
        outbox.flush()
        if facts:
            _signal(facts)
        if self._effects and self._jobs_ready is not None and (ready := ready_jobs(entries)):
            self._jobs_ready(list(ready.items()))

    def _announce(self, outbox: Outbox, facts: list[Fact], entry: Entry) -> None:
        """Announce one entry. ``outbox`` and ``facts`` get what others are told of the whole transaction."""
        seq = entry.seq
        if entry.effect is not None:
            self._effects = True
            if entry.context.address.is_inbox and seq is not None and not entry.duplicate:
                self._meet_inbox(entry.context, entry.epoch, entry.frame)
            self.parts += outbox.grown(entry, self._here)
        if entry.error is not None or entry.duplicate or seq is None:
            if entry.error is not None and entry.error.code == ErrorCode.CHANNEL_NOT_FOUND:
                # The channel was deleted, and the notification was lost. Its members receive no more messages.
                self._log_gone(entry.context)
            return
        self.published += 1
        ref: ChannelRef = entry.context
        address = ref.address
        if address.room == INBOX_ROOM:
            self._meet_inbox(ref, entry.epoch, entry.frame)
        self._deliver(entry.channel_id, seq, entry.frame, entry.exclude)
        if not self._broker.alone:
            outbox.messages.append(_row(entry, seq))
        if signals.message_published.receivers:
            facts.append((address, seq, entry.frame))

    def passed_by(self, entry: Entry) -> None:
        """Announce a message of an ephemeral channel."""
        self.published += 1
        self.passed += 1
        key = entry.key or ""
        self._deliver_ephemeral(entry.channel_id, entry.frame, key, entry.exclude)
        if not self._broker.alone:
            self._broker.send(notifications.EphemeralPublished([_ephemeral(entry)]))

    def receive_ephemeral(self, notification: notifications.EphemeralPublished) -> None:
        """Deliver the ephemeral messages of another thread or process."""
        for channel_id, frame, key in notification.frames:
            if key:
                # A repeat may be sent to this process, which then recognises it.
                self._passed.admit(key, channel_id)
            self._deliver_ephemeral(channel_id, frame, key)

    def _deliver_ephemeral(self, channel_id: int, frame: bytes, key: str, exclude: Member | None = None) -> None:
        """Deliver an ephemeral message to the members in this process, unless they have received it already."""
        if key and self._delivered.admit(key, channel_id) is not None:
            return
        stream = self._hub.stream(channel_id)
        if stream is not None:
            self._hub.broadcast(stream, frame, exclude)

    def count(self, notification: notifications.Notification) -> None:
        """Count the messages of a notification from another thread of this process."""
        if isinstance(notification, notifications.Published):
            self.published += len(notification.messages)
        elif isinstance(notification, notifications.EphemeralPublished):
            self.published += len(notification.frames)
            self.passed += len(notification.frames)
        elif isinstance(notification, notifications.StreamParts):
            self.parts += len(notification.parts)


def announce(entries: Sequence[Entry]) -> None:
    """Announce committed entries from any thread, through the nodes of this process if it has any."""
    outbox = Outbox(dispatch.notify)
    facts: list[Fact] = []
    ephemeral: list[notifications.EphemeralFrame] = []
    for entry in entries:
        if entry.effect is not None:
            outbox.grown(entry, None)
        if entry.error is not None or entry.duplicate:
            continue
        if entry.seq is not None:
            outbox.messages.append(_row(entry, entry.seq))
            facts.append((entry.context.address, entry.seq, entry.frame))
        elif entry.effect is None:
            ephemeral.append(_ephemeral(entry))
    outbox.flush()
    if facts:
        _signal(facts)
    if ready := ready_jobs(entries):
        dispatch.notify(notifications.WorkReady(list(ready.items())))
    if ephemeral:
        dispatch.notify(notifications.EphemeralPublished(ephemeral))


#: A message of the signal ``message_published``: its address, seq and frame.
Fact = tuple[Address, int, bytes]


def _row(entry: Entry, seq: int) -> notifications.CommittedMessage:
    room, channel = entry.context.address
    return notifications.CommittedMessage(entry.channel_id, room, channel, entry.epoch, seq, entry.frame)


def _ephemeral(entry: Entry) -> notifications.EphemeralFrame:
    return notifications.EphemeralFrame(entry.channel_id, entry.frame, entry.key or "")


def _signal(facts: list[Fact]) -> None:
    signals.message_published.send_robust(Published, messages=facts)
