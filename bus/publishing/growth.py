"""What is told of streamed messages after a commit: parts, openings and adoptions to members, stops and steers to owners."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from ..directory.channels import ChannelRef
from ..log import Entry
from ..log.effects import Effect, Ending, Opening, Part, Steer, StreamState
from ..notify import dispatch
from ..notify.messages import CommittedMessage, Notification, PartRow, Published, StreamParts, StreamSignal
from ..protocol import frames, growing
from ..protocol.names import Address
from ..realtime.growing import PartFrame
from ..realtime.hub import Member


class GrowingHere(Protocol):
    """The growing messages of an event loop, as far as an announcement needs them."""

    def opened(self, channel_id: int, of: str, stream_id: int, seq: int) -> None:
        """Note a message that begins to grow."""
        ...

    def part(self, channel_id: int, of: str, attempt: int, part: PartFrame) -> None:
        """Deliver a committed part."""
        ...


class OwnersHere(Protocol):
    """The owners of streams that are connected to an event loop."""

    def tell(self, signal: StreamSignal) -> None:
        """Tell the owner of a stop or a steer, if it is connected here."""
        ...

    def remind(self, state: StreamState) -> None:
        """Tell the owner once more of everything that it has not taken or followed."""
        ...


class Here(NamedTuple):
    """Who is told in the event loop itself, at once."""

    growing: GrowingHere
    owners: OwnersHere


class Outbox:
    """The notifications about one batch of entries, in the order in which the receivers need them.

    ``send`` passes a notification on. None means that no other process has to be told.
    """

    __slots__ = ("_opened", "_parts", "_send", "messages")

    def __init__(self, send: Callable[[Notification], None] | None) -> None:
        self._send = send
        #: The messages of the log that were committed.
        self.messages: list[CommittedMessage] = []
        self._opened: list[StreamSignal] = []
        self._parts: list[PartRow] = []

    def grown(self, entry: Entry, here: Here | None) -> int:
        """Announce what ``entry`` does to a streamed message, before its own message. Return how many parts it brings.

        ``here`` is told at once.
        """
        effect: Effect | None = entry.effect
        state = effect.stream if effect is not None else None
        if state is None or entry.error is not None:
            return 0
        if entry.duplicate:
            if here is not None and isinstance(effect, Opening):
                here.owners.remind(state)
            return 0
        if isinstance(effect, Part):
            if effect.applied:
                self._part(entry, effect, state, here)
            if effect.end is not None:
                self.flush()
            return effect.applied
        if isinstance(effect, Ending):
            self.flush()
        elif isinstance(effect, Opening):
            self._open(entry, state, here)
        elif isinstance(effect, Steer) and effect.steered:
            self._steer(entry, state, here)
        return 0

    def _part(self, entry: Entry, part: Part, state: StreamState, here: Here | None) -> None:
        address: Address = entry.context.address
        frame = frames.part(address, part.of, part.n, part.mode, part.data)
        if here is not None:
            exclude: Member | None = entry.exclude
            here.growing.part(entry.channel_id, part.of, state.attempt, PartFrame(part.n, frame, exclude))
        if self._send is not None:
            row = PartRow(entry.channel_id, part.of, state.attempt, part.n, frame, _owner_of(address))
            self._parts.append(row)

    def _open(self, entry: Entry, state: StreamState, here: Here | None) -> None:
        if here is not None:
            here.growing.opened(state.channel_id, state.uid, state.id, state.seq)
        if self._send is not None:
            self._opened.append(_signal("opened", state, entry.context.address))

    def _steer(self, entry: Entry, state: StreamState, here: Here | None) -> None:
        """Hand a steer to the owner, before the members get its message."""
        address: Address = entry.context.address
        signal = _signal("steer", state, address)
        signal.frame, signal.steer_seq = growing.steer_notice(address, state.uid, entry.frame), entry.seq or 0
        if here is not None:
            here.owners.tell(signal)
        if self._send is not None:
            self._send(signal)

    def flush(self) -> None:
        """Send what waits. The end of a message is sent after its parts."""
        if self._send is None:
            return
        if self.messages:
            messages, self.messages = self.messages, []
            self._send(Published(messages))
        for signal in self._opened:
            self._send(signal)
        self._opened.clear()
        if self._parts:
            parts, self._parts = self._parts, []
            self._send(StreamParts(parts))


def announce_stop(state: StreamState, ref: ChannelRef) -> None:
    """Tell the owner of an open stream, after the caller's commit, that somebody asked it to stop. For any thread."""
    signal = _signal("stop", state, ref.address)
    signal.frame = growing.stop_requested(ref.address, state.uid)
    dispatch.notify_on_commit(signal)


def announce_adopted(state: StreamState, ref: ChannelRef) -> None:
    """Tell the members of a channel, after the caller's commit, that a stream has a new owner. For any thread."""
    dispatch.notify_on_commit(_signal("reset", state, ref.address))


def _signal(event: str, state: StreamState, address: Address) -> StreamSignal:
    return StreamSignal(
        event,
        state.uid,
        state.channel_id,
        state.id,
        state.seq,
        state.mode,
        state.attempt,
        state.have,
        state.client_id,
        state.principal,
        _owner_of(address),
    )


def _owner_of(address: Address) -> str:
    """The client id of an inbox; empty for a channel."""
    return address.channel if address.is_inbox else ""
