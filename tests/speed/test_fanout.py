"""The same deliveries and commits with the extension and without it, on real sockets: the same bytes, the same state."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from types import SimpleNamespace
from typing import Any

import daphne.server  # noqa: F401 - installs Twisted's asyncio reactor before anything imports another
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bus._speed import core
from bus.auth import identity
from bus.log import Entry, LogWriter
from bus.monitoring.log_lines import Damper
from bus.node import ClientState
from bus.node.delivery.streams import Streams
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import Address
from bus.publishing import announce
from bus.realtime import hub as hubs
from bus.realtime.hub import Hub
from bus.realtime.recent import RecentBudget
from bus.realtime.writer import Bounds
from bus.servers.daphne.writer import DaphneWriter, opened_protocol
from bus.sockets.answers import Answers

pytestmark = [pytest.mark.pure, pytest.mark.skipif(core is None, reason="the extension was not built")]

CHANNELS, MEMBERS = 2, 4


class Failing:
    """Stands for a socket's ``send`` that fails: no test brings the kernel to it at a chosen moment."""

    def __init__(self, problem: Exception) -> None:
        self.problem = problem

    def __call__(self, wire: bytes) -> int:
        raise self.problem


class Side:
    """A hub whose members are real sockets behind daphne's protocol, with the extension or without it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, compiled: bool) -> None:
        self.compiled = compiled
        self.monkeypatch = monkeypatch
        self.loop = asyncio.new_event_loop()
        self.hub = Hub(self.loop, RecentBudget(messages=5, size=3000, total=4000))
        self.refs = [SimpleNamespace(id=n, address=Address("lab", f"c{n}")) for n in range(CHANNELS)]
        self.streams = [self.hub.open(ref.id, ref.address.room, ref.address.channel, "e", 0) for ref in self.refs]
        broker: Any = SimpleNamespace(alone=True)
        self.announcer = announce.Announcer(
            self.hub,
            broker,
            deliver=Streams(self.hub, broker, *[None] * 3).committed,  # type: ignore[arg-type] # nothing is early here
            meet_inbox=lambda *_: None,
            log_gone=lambda *_: None,
        )
        self.log: Any = LogWriter.__new__(LogWriter)
        self.log._committed = self.announcer.committed
        self.node: Any = SimpleNamespace(hub=self.hub, refusals=Damper(rate=0.001, burst=1.0))
        self.overflows = 0
        self.peers: list[socket.socket] = []
        self.received: list[bytearray] = []
        self.members = [self._member(n) for n in range(MEMBERS)]
        for member in self.members:
            for stream in self.streams:
                self.hub.add(stream, member.client)
        self.seqs = [0] * CHANNELS

    def _member(self, number: int) -> Answers:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        theirs.setblocking(False)
        self.peers.append(theirs)
        self.received.append(bytearray())
        protocol = opened_protocol(ours)
        protocol.transport.doWrite()
        theirs.recv(65_536)  # the answer to the handshake
        client = ClientState(f"connection-{number}", identity.ANONYMOUS)
        client.writer = DaphneWriter(protocol, Bounds(bytes=60_000, frames=40), self._overflow)
        client.writer._timer = SimpleNamespace(cancel=lambda: None)  # type: ignore[assignment] # no loop runs
        member = Answers(self.node, client, "")
        member.writer = client.writer
        return member

    def _overflow(self) -> None:
        self.overflows += 1

    def do(self, steps: list[tuple[Any, ...]]) -> None:
        """Do the steps of one turn, and let it end."""
        with self.monkeypatch.context() as patch:
            if not self.compiled:
                patch.setattr(hubs, "_write_all", hubs.write_all)
                patch.setattr(hubs, "_flush_all", hubs.flush_all)
            self.loop.run_until_complete(self._turn(steps))

    async def _turn(self, steps: list[tuple[Any, ...]]) -> None:
        for name, *arguments in steps:
            getattr(self, name)(*arguments)
        await asyncio.sleep(0)

    # --- the steps ----------------------------------------------------------------------------------------------------

    def commit(self, messages: list[tuple[int, int, str | None, int, str]]) -> None:
        """Commit a group: each message has a channel, a sender, an id, a size and what is special about it."""
        entries = []
        for channel, sender, request_id, size, special in messages:
            member = self.members[sender]
            done = {"refuse": member.refuse, "silent": None}.get(special, member.acknowledge)
            exclude = None if special == "echo" else member.client
            entry = Entry(channel, b"", b"", "u", "event", "s", None, done, exclude, self.refs[channel], request_id)
            if special == "error":
                entry.error = BusError(ErrorCode.UNAVAILABLE)
            elif special == "duplicate":
                entry.seq, entry.duplicate = max(self.seqs[channel], 1), True
            else:
                self.seqs[channel] += 1
                entry.seq, entry.frame = self.seqs[channel], b"%d" % self.seqs[channel] + b"." * size
                entry.swallowed = special == "swallowed"
            entries.append(entry)
        if not self.compiled:
            # The loops of the definition.
            with self.monkeypatch.context() as patch:
                patch.setattr(announce, "core", None)
                self.announcer.committed(entries)
            for entry in entries:
                self.log._answer(entry)
        else:
            self.log._settle(SimpleNamespace(entries=entries, passed=[]))

    def broadcast(self, channel: int, size: int) -> None:
        """Put a frame that is in no log."""
        self.hub.broadcast(self.streams[channel], b"b" * size)

    def send(self, member: int, size: int) -> None:
        """Send a frame to one member."""
        self.members[member].send(b"s" * size)

    def leave(self, channel: int, member: int) -> None:
        """End a membership."""
        self.hub.remove(self.streams[channel], self.members[member].client)

    def ping(self, member: int) -> None:
        """Let the server write a frame of its own, through its transport."""
        protocol: Any = self.members[member].writer._protocol  # type: ignore[attr-defined]
        if protocol.state == protocol.STATE_OPEN:
            protocol.sendPing(b"p")

    def close(self, member: int) -> None:
        """Begin to close a connection."""
        self.members[member].writer.close(1000)

    def fail(self, member: int, problem: type[Exception]) -> None:
        """Let the next writes to the socket fail."""
        self.members[member].writer._send = Failing(problem())

    def read(self, member: int) -> None:
        """Let the client read everything, and the server write what waited."""
        protocol: Any = self.members[member].writer._protocol  # type: ignore[attr-defined]
        transport = protocol.transport
        for _ in range(1000):
            try:
                self.received[member] += self.peers[member].recv(1 << 20)
            except BlockingIOError:
                if not (transport.dataBuffer or transport._tempDataBuffer):
                    return
                transport.doWrite()

    # --- what is compared -----------------------------------------------------------------------------------------------

    def outcome(self) -> dict[str, Any]:
        """Everything that anybody can see of it."""
        hub = self.hub
        return {
            "counted": (hub.delivered, hub.delivered_bytes, self.announcer.published, self.overflows, hub.recent_bytes),
            "streams": [(stream.head, stream.recent_after(0), len(stream.pending)) for stream in self.streams],
            "recent": [
                None if stream.recent is None else (stream.recent.first, stream.recent.size) for stream in self.streams
            ],
            "writers": [self._writer(member.writer) for member in self.members],
            "received": [bytes(data) for data in self.received],
        }

    @staticmethod
    def _writer(writer: Any) -> tuple[Any, ...]:
        return (
            writer._direct,
            writer._waiting,
            writer._queued,
            writer.buffered(),
            writer.closed,
            writer.overflowed,
            writer.pending,
        )

    def end(self) -> None:
        """Close everything."""
        for member, peer in zip(self.members, self.peers, strict=True):
            member.writer._protocol.transport.socket.close()  # type: ignore[attr-defined]
            peer.close()
        self.loop.close()


IDS = [None, "m-1", 'quo"te', "ba\\ckslash", "ä", "a" * 128, "\x7f", "\n"]

member = st.integers(0, MEMBERS - 1)
channel = st.integers(0, CHANNELS - 1)
size = st.sampled_from([0, 1, 100, 119, 130, 3000, 66_000])
message = st.tuples(
    channel,
    member,
    st.sampled_from(IDS),
    size,
    st.sampled_from(["", "", "", "echo", "refuse", "silent", "error", "duplicate", "swallowed"]),
)
step = st.one_of(
    st.tuples(st.just("commit"), st.lists(message, min_size=1, max_size=6)),
    st.tuples(st.just("broadcast"), channel, size),
    st.tuples(st.just("send"), member, size),
    st.tuples(st.just("leave"), channel, member),
    st.tuples(st.just("ping"), member),
    st.tuples(st.just("close"), member),
    st.tuples(st.just("fail"), member, st.sampled_from([BlockingIOError, InterruptedError, ConnectionResetError])),
    st.tuples(st.just("read"), member),
)
turns = st.lists(st.lists(step, min_size=1, max_size=4), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(turns)
@example([[("commit", [(0, 0, one, 5, "echo") for one in IDS])]])
@example([[("close", 0), ("commit", [(0, 0, "m-1", 5, "echo"), (0, 1, "m-2", 5, "")])], [("broadcast", 1, 5)]])
@example([[("fail", 1, ConnectionResetError), ("fail", 2, BlockingIOError), ("commit", [(0, 0, "m-1", 5, "echo")])]])
@example(
    [[("broadcast", 0, 66_000), ("ping", 1)], [("send", 1, 5), ("broadcast", 0, 5)], [("read", 1)], [("send", 1, 1)]]
)
def test_both_paths_give_the_same_bytes_and_the_same_state(steps: list[list[tuple[Any, ...]]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        sides = [Side(monkeypatch, compiled=True), Side(monkeypatch, compiled=False)]
        try:
            for turn in [*steps, [("read", n) for n in range(MEMBERS)]]:
                for side in sides:
                    side.do(turn)
                assert sides[0].outcome() == sides[1].outcome()
        finally:
            for side in sides:
                side.end()


@pytest.fixture
def compiled() -> Any:
    """A side with the extension."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = Side(monkeypatch, compiled=True)
        yield made
        made.end()


def test_members_that_change_during_a_fan_out_are_an_error_and_no_crash(compiled: Side) -> None:
    """The interpreter's lock is free while a socket takes bytes, so a fault elsewhere may change the members then."""
    stream = compiled.streams[0]

    def send(wire: bytes) -> int:
        stream.members.clear()
        return len(wire)

    for one in compiled.members:
        one.writer._send, one.writer._direct = send, True
    compiled.hub.broadcast(stream, b"frame")
    with pytest.raises(RuntimeError, match="changed"):
        compiled.hub.flush()


def test_another_error_than_the_system_s_is_raised(compiled: Side) -> None:
    """As in Python: a fault of the program is not taken for a client that is gone."""
    compiled.members[0].writer._direct = True
    compiled.fail(0, ZeroDivisionError)
    compiled.hub.broadcast(compiled.streams[0], b"frame")
    with pytest.raises(ZeroDivisionError):
        compiled.hub.flush()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("write_all", ()),
        ("write_all", ([], [])),
        ("write_all", ({}, [1])),
        ("write_all", ({1: 2}, [])),
        ("flush_all", ([],)),
        ("flush_all", ({1: None},)),
        ("put_all", (None, [], print)),
        ("put_all", (None, (), print)),
        ("answer_all", ((), print)),
        ("answer_all", ([1], 2)),
    ],
)
def test_wrong_arguments_are_refused(function: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, AttributeError)):
        getattr(core, function)(*arguments)


def test_nothing_is_kept(compiled: Side) -> None:
    """Each reference has one owner: the same work again and again leaves no object behind."""
    work = [
        ("commit", [(0, 0, "m-1", 100, ""), (1, 1, None, 100, "echo"), (0, 2, "x", 9, "error"), (1, 3, "\n", 9, "")]),
        ("broadcast", 0, 3000),
        ("send", 1, 100),
        *[("read", n) for n in range(MEMBERS)],
    ]
    objects = [
        compiled.hub,
        *compiled.members,
        *(one.writer for one in compiled.members),
        None,
        True,
        False,
        *compiled.refs,
    ]

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(thing) for thing in objects[:9]] + [sys.getallocatedblocks()]

    for _ in range(50):
        compiled.do(work)
    before = counts()
    for _ in range(300):
        compiled.do(work)
    after = counts()
    assert after[:-1] == before[:-1]
    assert after[-1] - before[-1] < 200, "fewer than one object for each round"


def test_a_stream_may_go_while_the_collector_runs_in_the_middle_of_a_commit() -> None:
    """The collector runs when an object is made, and calls whoever asked for that."""
    assert core is not None
    loop = asyncio.new_event_loop()
    hub = Hub(loop, RecentBudget(messages=5, size=3000, total=4000))
    armed = False

    def collecting(phase: str, info: dict[str, int]) -> None:
        if armed:
            hub.streams.clear()

    def left(entry: Entry) -> None:
        raise AssertionError(entry)

    before = gc.get_threshold()
    gc.callbacks.append(collecting)
    try:
        for _ in range(50):
            stream = hub.open(1, "lab", "c", "e", 0)
            hub.put(stream, 1, b"x", None)
            hub.flush()
            del stream
            entries = [Entry(1, b"h", b"t", "u", "event", "s", seq=2, frame=b"x" * 100)]
            fresh = [SimpleNamespace() for _ in range(50)]
            gc.set_threshold(1)
            armed = True
            put = core.put_all(hub, entries, left)
            armed = False
            gc.set_threshold(*before)
            assert (put, len(fresh), hub.streams) == (1, 50, {})
            (kept,) = hub._scheduled_streams
            assert (kept.head, [delivery.frame for delivery in kept.pending]) == (2, [b"x" * 100])
            del kept
            hub.flush()
    finally:
        armed = False
        gc.set_threshold(*before)
        gc.callbacks.remove(collecting)
        loop.close()
