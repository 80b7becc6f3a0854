"""The hub alone: members, order, one write for each loop turn, slow writers, and changes of membership within a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bus.protocol.names import WHOLE
from bus.realtime.hub import Hub, Stream
from bus.realtime.recent import RecentBudget
from bus.realtime.writer import Bounds
from tests.realtime.members import Listener

pytestmark = pytest.mark.pure


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop end one turn."""
    loop.run_until_complete(asyncio.sleep(0))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs only when the test lets it."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def hub(loop: asyncio.AbstractEventLoop) -> Hub:
    """A hub in that loop."""
    return Hub(loop, RecentBudget(messages=4, size=1000, total=10_000))


@pytest.fixture
def stream(hub: Hub) -> Stream:
    """A log at its beginning."""
    return hub.open(1, "lab", "notes", "e", 0)


def test_the_frames_of_one_turn_are_one_write_shared_by_all_members(
    hub: Hub, stream: Stream, loop: asyncio.AbstractEventLoop
) -> None:
    members = [Listener() for _ in range(3)]
    for member in members:
        hub.add(stream, member)
    hub.put(stream, 1, b"one", None)
    hub.broadcast(stream, b"between")
    hub.put(stream, 2, b"two", None)
    assert [member.frames for member in members] == [[], [], []], "nothing is written within the turn"
    turn(loop)
    assert [member.kept.writes for member in members] == [[[b"one", b"between", b"two"]]] * 3
    assert len({id(member.kept.batches[0]) for member in members}) == 1, "the bytes are built once"
    hub.put(stream, 3, b"three", None)
    turn(loop)
    assert members[0].kept.writes[1:] == [[b"three"]]
    assert (hub.delivered, stream.head) == (12, 3)


def test_a_frame_for_one_connection_is_written_in_the_order_of_the_calls(
    hub: Hub, stream: Stream, loop: asyncio.AbstractEventLoop
) -> None:
    member = Listener()
    hub.add(stream, member)
    hub.send(member, b"answer")
    hub.put(stream, 1, b"message", None)
    hub.send(member, b"second answer")
    turn(loop)
    assert member.frames == [b"answer", b"second answer", b"message"]
    assert len(member.kept.writes) == 1, "the answers share a write with the message"


def test_a_frame_after_a_flush_of_its_stream_comes_after_the_stream_s_messages(
    hub: Hub, stream: Stream, loop: asyncio.AbstractEventLoop
) -> None:
    member = Listener()
    hub.add(stream, member)
    hub.put(stream, 1, b"message", None)
    hub.flush_stream(stream)
    hub.send(member, b"answer with the head")
    turn(loop)
    assert member.frames == [b"message", b"answer with the head"]


def test_who_is_left_out_gets_the_other_frames_of_the_turn(
    hub: Hub, stream: Stream, loop: asyncio.AbstractEventLoop
) -> None:
    sender, other = Listener(), Listener()
    for member in (sender, other):
        hub.add(stream, member)
    hub.put(stream, 1, b"mine", sender)
    hub.put(stream, 2, b"of others", None)
    turn(loop)
    assert sender.frames == [b"of others"]
    assert other.frames == [b"mine", b"of others"]
    assert hub.delivered == 3


def test_membership_changes_count_from_their_place_within_the_turn(
    hub: Hub, stream: Stream, loop: asyncio.AbstractEventLoop
) -> None:
    early, late = Listener(), Listener()
    hub.add(stream, early)
    hub.put(stream, 1, b"one", None)
    hub.add(stream, late)
    hub.put(stream, 2, b"two", None)
    hub.remove(stream, early)
    hub.put(stream, 3, b"three", None)
    turn(loop)
    assert early.frames == [b"one", b"two"]
    assert late.frames == [b"two", b"three"]


def test_a_slow_member_is_reported_once_and_costs_the_others_nothing(
    hub: Hub, stream: Stream, loop: asyncio.AbstractEventLoop
) -> None:
    slow, quick = Listener(Bounds(frames=3)), Listener()
    for member in (slow, quick):
        hub.add(stream, member)
    for seq in range(1, 11):
        hub.put(stream, seq, b"%d" % seq, None)
        turn(loop)
    assert slow.kept.overflows == 1
    assert slow.frames == [b"1", b"2", b"3", b"4"], "it keeps no more than one write above its bound"
    assert quick.frames == [b"%d" % seq for seq in range(1, 11)]
    # It is still a member until its owner removes it; then nothing of the hub holds it.
    hub.remove(stream, slow)
    assert list(stream.members) == [quick]


def test_a_member_that_leaves_while_the_frames_are_written_leaves_the_others_whole(
    hub: Hub, stream: Stream, loop: asyncio.AbstractEventLoop
) -> None:
    leaving, staying = Listener(Bounds(frames=0)), Listener()

    def leave() -> None:
        loop.call_soon(hub.remove, stream, leaving)  # At the end of the turn, as a connection does it.

    leaving.kept.on_overflow = leave
    for member in (leaving, staying):
        hub.add(stream, member)
    hub.put(stream, 1, b"one", None)
    turn(loop)
    turn(loop)
    hub.put(stream, 2, b"two", None)
    turn(loop)
    assert list(stream.members) == [staying]
    assert staying.frames == [b"one", b"two"]


def test_streams_are_found_by_id_and_those_of_whole_rooms_by_room(hub: Hub) -> None:
    whole, renewed = hub.open(7, "lab", WHOLE, "e1", 3), hub.open(8, "lab", WHOLE, "e2", 0)
    channel = hub.open(9, "lab", "notes", "e", 5)
    assert hub.open(7, "other", "names", "e9", 99) is whole, "it is open already"
    assert (whole.head, hub.stream(9), hub.stream(10)) == (3, channel, None)
    assert hub.of_room("lab") == [whole, renewed]
    hub.discard(7)
    assert hub.of_room("lab") == [renewed]
    hub.discard(8)
    hub.discard(8)
    assert (hub.of_room("lab"), hub._whole) == ([], {})


def test_a_stream_is_discarded_only_without_members_and_waiting_frames(
    hub: Hub, stream: Stream, loop: asyncio.AbstractEventLoop
) -> None:
    member = Listener()
    hub.add(stream, member)
    hub.discard_if_empty(stream)
    assert hub.stream(1) is stream
    hub.remove(stream, member)
    hub.put(stream, 1, b"waits", None)
    hub.discard_if_empty(stream)
    assert hub.stream(1) is stream
    turn(loop)
    hub.discard_if_empty(stream)
    assert hub.stream(1) is None
    assert hub.recent_bytes == 0, "its recent messages went with it"


def test_recent_messages_are_those_of_the_log_and_not_what_was_broadcast(hub: Hub, stream: Stream) -> None:
    assert stream.recent_after(0) == [], "nobody missed anything"
    hub.put(stream, 1, b"one", None)
    hub.broadcast(stream, b"passing")
    hub.put(stream, 2, b"two", None)
    assert stream.recent_after(0) == [(1, b"one"), (2, b"two")]
    assert stream.recent_after(1) == [(2, b"two")]
    assert stream.recent_after(2) == stream.recent_after(7) == []
    hub.forget_recent(stream)
    assert stream.recent_after(1) is None


SEQ = st.integers(0, 3)


class HubMachine(RuleBasedStateMachine):
    """Whatever happens in whatever turns: each member gets the frames of its memberships, each once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.hub = Hub(self.loop, RecentBudget(messages=3, size=50, total=80))
        self.streams = [self.hub.open(number, "lab", f"c{number}", "e", 0) for number in range(3)]
        self.members = [Listener() for _ in range(4)]
        # What each member is to get of each stream, and of frames for it alone.
        self.expected: dict[tuple[int, int], list[bytes]] = {}
        self.joined: set[tuple[int, int]] = set()
        self.logs: list[list[bytes]] = [[], [], []]
        self.count = 0

    def teardown(self) -> None:
        turn(self.loop)
        self.everything_is_delivered()
        self.loop.close()

    def _frame(self, stream: int) -> bytes:
        self.count += 1
        return b"%d:%d" % (stream, self.count)

    def _expect(self, stream: int, frame: bytes, exclude: int | None) -> None:
        for member in range(len(self.members)):
            if (stream, member) in self.joined and member != exclude:
                self.expected.setdefault((stream, member), []).append(frame)

    @rule(stream=st.integers(0, 2), exclude=st.none() | SEQ)
    def put(self, stream: int, exclude: int | None) -> None:
        """A message of a log."""
        frame = self._frame(stream)
        self.logs[stream].append(frame)
        self._expect(stream, frame, exclude)
        self.hub.put(
            self.streams[stream], len(self.logs[stream]), frame, None if exclude is None else self.members[exclude]
        )

    @rule(stream=st.integers(0, 2), exclude=st.none() | SEQ)
    def broadcast(self, stream: int, exclude: int | None) -> None:
        """A frame that is no message of the log."""
        frame = self._frame(stream)
        self._expect(stream, frame, exclude)
        self.hub.broadcast(self.streams[stream], frame, None if exclude is None else self.members[exclude])

    @rule(member=SEQ)
    def send(self, member: int) -> None:
        """A frame for one connection."""
        frame = self._frame(9)
        self.expected.setdefault((9, member), []).append(frame)
        self.hub.send(self.members[member], frame)

    @rule(stream=st.integers(0, 2), member=SEQ)
    def join(self, stream: int, member: int) -> None:
        """From now on it is a member."""
        self.hub.add(self.streams[stream], self.members[member])
        self.joined.add((stream, member))

    @rule(stream=st.integers(0, 2), member=SEQ)
    def leave(self, stream: int, member: int) -> None:
        """From now on it is none; it may not have been one."""
        self.hub.remove(self.streams[stream], self.members[member])
        self.joined.discard((stream, member))

    @rule(stream=st.integers(0, 2))
    def flush_stream(self, stream: int) -> None:
        """What waits of one stream is written in the middle of the turn."""
        self.hub.flush_stream(self.streams[stream])

    @rule()
    def end_turn(self) -> None:
        """The loop turn ends."""
        turn(self.loop)
        self.everything_is_delivered()

    @precondition(lambda self: any(self.logs))
    @rule(stream=st.integers(0, 2), after=st.integers(0, 20))
    def read_recent(self, stream: int, after: int) -> None:
        """What memory says of a log is its end, or nothing at all."""
        log = self.logs[stream]
        recent = self.streams[stream].recent_after(after)
        if recent is not None:
            assert [frame for _, frame in recent] == log[after:]
            assert [seq for seq, _ in recent] == list(range(after + 1, len(log) + 1))

    def everything_is_delivered(self) -> None:
        """At the end of a turn nothing waits."""
        for number, member in enumerate(self.members):
            for stream in (0, 1, 2, 9):
                got = [frame for frame in member.frames if frame.startswith(b"%d:" % stream)]
                assert got == self.expected.get((stream, number), [])

    @invariant()
    def nothing_comes_twice_and_the_count_is_right(self) -> None:
        """Also in the middle of a turn."""
        for member in self.members:
            assert len(set(member.frames)) == len(member.frames)
        fanned_out = sum(not frame.startswith(b"9:") for member in self.members for frame in member.frames)
        waiting = sum(len(batch) for member in self.members for batch in [member.writer.pending or []])
        assert self.hub.delivered == fanned_out
        assert waiting <= sum(len(frames) for (stream, _), frames in self.expected.items() if stream == 9)
        assert self.hub.recent_bytes <= 80


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
