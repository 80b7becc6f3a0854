"""What other processes and the loop itself are told of streamed messages, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from bus.directory.channels import ChannelRef
from bus.log import Entry
from bus.log.effects import ABORTED, OPEN, Effect, Ending, Opening, Part, Steer, StreamState
from bus.notify.messages import CommittedMessage, Notification, Published, StreamParts, StreamSignal
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import Address
from bus.publishing.growth import Here, Outbox
from bus.realtime.growing import PartFrame

pytestmark = pytest.mark.pure

HALL = ChannelRef(7, Address("lab", "hall"), "epoch", ephemeral=False, private=False, presence=True)


def state(have: int = 0, now: str = OPEN) -> StreamState:
    """The stream after a commit."""
    return StreamState(5, "arq_a1", 7, 1, "text", now, have, 1, "owner", "user:1", False, False, 0, None)


def entry(effect: Effect, seq: int | None = None, *, after: StreamState | None = None) -> Entry:
    """An entry after its commit."""
    made = Entry(7, b"", b"", "arq_x", "event", "owner", context=HALL, effect=effect)
    made.seq, made.frame, effect.stream = seq, b'{"seq":%d}' % (seq or 0), after or state()
    return made


def part(n: int, text: str, *, end: str | None = None, applied: bool = True, seq: int | None = None) -> Entry:
    """A committed part."""
    effect = Part("arq_a1", n, "text", text.encode(), "owner", "user:1", max_bytes=100, end=end)
    effect.applied = applied
    return entry(effect, seq, after=state(n))


class Heard:
    """An outbox, what it sent, and what the loop itself was told."""

    def __init__(self) -> None:
        self.sent: list[Notification] = []
        self.here: list[tuple[Any, ...]] = []
        self.outbox = Outbox(self.sent.append)

    def opened(self, channel_id: int, of: str, stream_id: int, seq: int) -> None:
        self.here.append(("opened", channel_id, of, stream_id, seq))

    def part(self, channel_id: int, of: str, attempt: int, part: PartFrame) -> None:
        self.here.append(("part", part.n, part.frame))

    def tell(self, signal: StreamSignal) -> None:
        self.here.append((signal.event, signal.client_id, signal.frame))

    def remind(self, state: StreamState) -> None:
        self.here.append(("remind", state.uid))

    def announce(self, *entries: Entry) -> None:
        """Announce committed entries as the announcer does."""
        for made in entries:
            self.outbox.grown(made, Here(self, self))
            if made.seq is not None and not made.duplicate:
                self.outbox.messages.append(CommittedMessage(7, "lab", "hall", "epoch", made.seq, made.frame))
        self.outbox.flush()


def shown(notification: Notification) -> Any:
    """The numbers of messages and parts, or the event."""
    if isinstance(notification, Published):
        return [row.seq for row in notification.messages]
    if isinstance(notification, StreamParts):
        return [f"part {row.n}" for row in notification.parts]
    return notification.event if isinstance(notification, StreamSignal) else None


def test_other_processes_hear_of_the_opening_then_of_the_parts_and_then_of_the_end() -> None:
    heard = Heard()
    opening = entry(Opening("text", "owner", "user:1"), 1)
    heard.announce(opening, part(1, "Hel"), part(2, "lo"), part(3, "!", end="complete", seq=2), part(4, "next"))
    assert list(map(shown, heard.sent)) == [[1], "opened", ["part 1", "part 2", "part 3"], [2], ["part 4"]]
    assert [told[0] for told in heard.here] == ["opened", "part", "part", "part", "part"]
    assert heard.here[2][2] == (b'{"type":"append","room":"lab","channel":"hall","of":"arq_a1","n":2,"delta":"lo"}')


def test_an_end_by_the_server_comes_after_the_parts() -> None:
    heard = Heard()
    ended = state(1, ABORTED)
    heard.announce(part(1, "Hel"), entry(Ending("arq_a1", ABORTED, 1, 1), 2, after=ended))
    assert list(map(shown, heard.sent)) == [["part 1"], [2]]


def test_a_steer_is_handed_to_the_owner_before_the_members() -> None:
    heard, steer = Heard(), Steer("arq_a1")
    steer.steered = True
    heard.announce(entry(steer, 2))
    assert list(map(shown, heard.sent)) == ["steer", [2]]
    ((event, owner, frame),) = heard.here
    assert (event, owner) == ("steer", "owner")
    assert b'"message":{"seq":2}' in frame


def test_what_changed_nothing_is_not_announced() -> None:
    heard, late = Heard(), Steer("arq_a1")
    refused, repeated = part(9, "gap"), part(1, "again", applied=False)
    refused.error, repeated.duplicate = BusError(ErrorCode.STREAM_GAP), True
    taking = part(1, "", applied=False)
    heard.announce(refused, repeated, taking, entry(late, 2))
    assert list(map(shown, heard.sent)) == [[2]]
    assert heard.here == []


def test_a_repeated_opening_reminds_the_owner() -> None:
    heard = Heard()
    again = entry(Opening("text", "owner", "user:1"), 1)
    again.duplicate = True
    heard.announce(again)
    assert (heard.sent, heard.here) == ([], [("remind", "arq_a1")])


def test_a_process_that_is_alone_sends_nothing() -> None:
    heard = Heard()
    heard.outbox = Outbox(None)
    heard.announce(part(1, "Hel"), part(2, ".", end="complete", seq=2))
    assert [told[0] for told in heard.here] == ["part", "part"]
