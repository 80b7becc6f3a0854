"""What Python forgets, the lane forgets: after each kind of change, Python decides about the very next frame."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import msgspec
import pytest
from asgiref.sync import sync_to_async

from bus._speed import core
from bus.auth.permissions import SYSTEM, table
from bus.node import Node, current
from bus.notify.messages import EphemeralPublished
from bus.protocol.limits import TokenBucket
from bus.protocol.names import Address
from bus.realtime.frame import masked_frame
from bus.services.channels import create_channel
from bus.shapes import WorkRule
from bus.sockets.lane import lane_of
from bus.testing import live_bus
from telemetry.consumers import TelemetryConnection
from tests.harness.waiting import wait_for
from tests.speed.sides import MASK, Peer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.embedded,
    pytest.mark.skipif(core is None, reason="the extension was not built"),
]

numbers = count(int(time.time()))
QUICK = Address("lab", "quick")


def frame(keys: str = "", channel: str = "quick") -> bytes:
    return masked_frame(
        b'{"type":"event","channel":"%b","payload":{"d":1}%b}' % (channel.encode(), keys.encode()), MASK
    )


class Elsewhere:
    """A broker with other processes, which keeps what they are told."""

    alone = False
    overloaded = False
    on_reconnect: Callable[[], None]

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def stop(self) -> None:
        """Nothing has to be stopped."""

    def send(self, notification: Any) -> None:
        self.told.append(notification)


class Sender(Peer):
    """A client whose lane has learnt its channels, one of them ephemeral."""

    def takes(self, data: bytes) -> bool:
        """Whether the lane takes a frame whole."""
        assert self.lane is not None
        return self.lane.take(data, 0) == len(data)

    @property
    def client(self) -> Any:
        return self.connection.client


@pytest.fixture
async def node(transactional_db: None) -> AsyncIterator[Node]:
    """The node of the test's event loop, with an ephemeral channel."""
    async with live_bus():
        node = current()
        await node.start()
        await sync_to_async(create_channel)(SYSTEM, QUICK, ephemeral=True, door="test")
        yield node


async def taught(node: Node) -> Sender:
    # The process remembers the ids that passed, also those of other tests.
    sender = Sender(node, compiled=True, client_id=f"ada{next(numbers)}", room="lab", channel="main")
    await sender.open()
    for channel in ("quick", "quick", "main", "main"):
        await sender.feed(frame(channel=channel))
    assert sender.takes(frame())
    return sender


@pytest.fixture
async def sender(node: Node) -> AsyncIterator[Sender]:
    """A taught sender."""
    sender = await taught(node)
    yield sender
    await sender.connection.closed(1000)


def _changes(sender: Sender) -> dict[str, Callable[[], object]]:
    """Everything that may change the answer to the next frame, by its name."""
    node, client, session = sender.connection.node, sender.client, sender.connection.session
    refs = node.channels._refs

    def replaced(**changes: Any) -> Callable[[], object]:
        return lambda: refs.__setitem__(QUICK, msgspec.structs.replace(refs[QUICK], **changes))

    def empty(bucket: Any) -> Callable[[], object]:
        def leave_half() -> None:
            bucket.rate, bucket.level = 1e-6, 0.5

        return leave_half

    return {
        "the channel is forgotten": lambda: node.channels.forget(QUICK),
        "the room is forgotten": lambda: node.channels.forget_room("lab"),
        "the channel became another one": replaced(id=refs[QUICK].id + 1000),
        "the channel is durable now": replaced(ephemeral=False),
        "the channel has gates now": replaced(gated=True),
        "the channel is a work channel now": replaced(work=WorkRule()),
        "the answers of the rules are forgotten": node.clients.forget_permissions,
        "the rules changed": lambda: setattr(table(), "version", table().version + 1),
        "the client may not publish": lambda: client.allowed.update(dict.fromkeys(client.allowed, False)),
        "the identity changed": lambda: setattr(client, "actor", msgspec.structs.replace(client.actor, admin=True)),
        "the initial channel changed": lambda: setattr(client, "initial", Address("lab", "other")),
        "the client id changed": lambda: setattr(client, "client_id", "other"),
        "the activity of the last second is over": client.noted.clear,
        "the connection is closing": lambda: sender.connection.close(4013, None),
        "the process drains": lambda: setattr(node.traffic, "draining", True),
        "the frames are above the rate": empty(session._frames),
        "the bytes are above the rate": empty(session._bytes),
        "the principal is above its rate": lambda: session.share(TokenBucket(1e-6, 0.5, time.monotonic())),
        "the server takes no texts of that length": lambda: setattr(sender.lane, "largest", 10),
    }


async def test_after_each_kind_of_change_python_decides_about_the_next_frame(node: Node) -> None:
    sender = await taught(node)
    names = list(_changes(sender))
    await sender.connection.closed(1000)
    for name in names:
        sender = await taught(node)
        before = sender.levels(), node.announcer.published, node.traffic.received
        _changes(sender)[name]()
        assert not sender.takes(frame()), name
        assert (node.announcer.published, node.traffic.received) == before[1:], (
            f"{name}: the frame was left, but counted"
        )
        node.traffic.draining = False
        node.channels.forget(QUICK)
        await sender.connection.closed(1000)


async def test_a_full_layer_leaves_ephemeral_messages_to_python(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    broker: Any = Elsewhere()
    monkeypatch.setattr(node, "broker", broker)
    sender = await taught(node)
    assert sender.takes(frame())
    broker.overloaded = True
    assert not sender.takes(frame())
    assert not sender.takes(frame(',"id":"m1"'))
    await sender.connection.closed(1000)


async def test_other_processes_hear_of_the_ephemeral_messages_of_one_read_at_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker: Any = Elsewhere()
    monkeypatch.setattr(node, "broker", broker)
    sender = await taught(node)
    broker.told.clear()
    assert sender.takes(frame() + frame(',"id":"m1"') + frame(',"id":"m2","echo":true'))
    (notification,) = broker.told
    assert isinstance(notification, EphemeralPublished)
    assert [(row.channel_id, row.key) for row in notification.frames] == [
        (node.channels._refs[QUICK].id, key)
        for key in ("", f"{sender.client.client_id}/m1", f"{sender.client.client_id}/m2")
    ]
    assert b'"id":"arq_m2"' in notification.frames[2].frame
    await sender.connection.closed(1000)


async def test_a_repeat_is_left_whoever_saw_the_first_one(sender: Sender) -> None:
    node = sender.connection.node
    assert sender.takes(frame(',"id":"m1"'))
    assert not sender.takes(frame(',"id":"m1"'))
    node.announcer._passed.admit(f"{sender.client.client_id}/m2", 1)
    assert not sender.takes(frame(',"id":"m2"'))
    with node.announcer._passed._lock:
        assert not sender.takes(frame(',"id":"m3"')), "another thread is about to remember an id"
    assert sender.takes(frame(',"id":"m3"'))


async def test_a_burst_of_ids_beyond_the_memory_is_forgotten_as_python_forgets(sender: Sender) -> None:
    passed = sender.connection.node.announcer._passed
    for number in range(9_998):
        passed.admit(f"x/{number}", 1)
    for number in range(20):
        await sender.feed(frame(f',"id":"n{number}"'))
    assert 9_000 <= len(passed) <= 10_000
    assert passed.channel_of(f"{sender.client.client_id}/n19") is not None


async def test_a_full_queue_refuses_as_python_does(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    log = sender.connection.node.log
    await log.drained()
    monkeypatch.setattr(log, "_many", 0)
    monkeypatch.setattr(log._shares, "refuses", lambda *_: True)
    sender.frames.clear()
    assert sender.takes(frame(',"id":"b1"', "main") + frame(',"id":"b2"', "main"))
    refused = [msgspec.json.decode(answer) for answer in sender.frames]
    assert [(answer["request_id"], answer["error"]["code"]) for answer in refused] == [("b1", "BUSY"), ("b2", "BUSY")]


async def test_the_way_ends_with_the_connection(node: Node) -> None:
    sender = await taught(node)
    await sender.connection.closed(1000)
    assert sender.connection.lane is None
    assert not sender.takes(frame())


async def test_only_a_socket_with_the_usual_grammar_has_a_lane_and_none_while_each_message_is_logged(
    node: Node,
) -> None:
    connection = TelemetryConnection(node, None, kind="telemetry")
    assert lane_of(connection) is None
    node.traces = True
    assert Sender(node, compiled=True, client_id="bob").lane is None


async def test_all_connections_together_remember_a_bounded_number_of_ways(sender: Sender) -> None:
    """A client may make up a type for each message, and a way costs memory for as long as it is connected."""
    assert core is not None
    connection = sender.connection
    way = ("event", 1, 1, 1, 1, "", b"", b"", False)

    def ways(lane: object) -> int:
        return sum(len(found) for found in gc.get_referents(lane) if type(found) is dict)

    def learned() -> object:
        lane = core.Lane(connection.node.road, connection.client, connection.session, connection, 1000, 32)
        for number in range(1024):
            lane.learn(b"%d" % number, way)
        return lane

    first = learned()
    assert ways(first) == 1024
    lanes = [learned() for _ in range(200)]
    assert 131_072 <= sum(map(ways, lanes)) <= 131_072 + 1024 + 200 * 64
    lanes.clear()
    assert ways(learned()) == 1024


async def test_wrong_arguments_are_refused(sender: Sender) -> None:
    lane: Any = sender.lane
    for wrong in ((b"x",), (b"x", 2), (b"x", -1), ("x", 0), (b"x", 1 << 70), (bytearray(b"x"), 0)):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            lane.take(*wrong)
    for odd in ((b"x", ()), ("x", (1,) * 9), (b"x", (1,) * 9)):
        with pytest.raises(TypeError):
            lane.learn(*odd)
    assert core is not None
    for nothing in ({}, {"traffic": 1}, {"remembered": 1}):
        with pytest.raises(TypeError):
            core.Road(**nothing)
    with pytest.raises(TypeError):
        core.Lane(core.Road, 1, 2, 3, 4, 5)


async def test_a_thousand_reads_leave_no_reference_behind(sender: Sender) -> None:
    node, client = sender.connection.node, sender.client
    member = Peer(node, compiled=False, client_id=f"bob{next(numbers)}", room="lab", channel="quick")
    await member.open()
    sender.connection.session._frames.rate = sender.connection.session._bytes.rate = 0.0
    ref = node.channels._refs[QUICK]
    data = frame(',"ack":true') * 5 + frame(',"echo":true') * 5 + frame(',"metadata":{"a":1},"sent_at":1')

    async def read() -> None:
        await sender.feed(data)
        await asyncio.sleep(0)
        sender.writer.raw.clear()
        assert len(member.frames) == 11
        member.writer.raw.clear()

    def counts() -> list[int]:
        gc.collect()
        kept = (client, client.client_id, client.actor, ref, ref.address, sender.connection, node.hub, client.allowed)
        return [*map(sys.getrefcount, kept), sys.getallocatedblocks() // 500]

    sender.takes(frame(channel="main"))
    await node.publisher.drained()
    client.noted = {"event", "for good"}
    member.frames.clear()
    await read()
    before = counts()
    for _ in range(1000):
        await read()
    await wait_for(lambda: not len(node.log), "the log")
    assert counts() == pytest.approx(before, abs=2)
    await member.connection.closed(1000)
