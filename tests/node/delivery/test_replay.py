"""A client that catches up gets every message once, in order, and is a member in the same moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bus.auth.permissions import Actor
from bus.models import Message, new_epoch
from bus.node import Node
from bus.node.delivery import replay
from bus.node.delivery.replay import Start, check_since
from bus.protocol.errors import SLOW, BusError, Closing
from bus.realtime.hub import Stream
from tests.harness.waiting import wait_for
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def stream(node: Node, log: Log) -> Stream:
    """The stream of a log with four messages, none of them in memory."""
    await log.append("one", "two", "three", "four")
    (opened,) = await node.streams.open([log.ref])
    return opened


async def _prune(node: Node, stream: Stream, up_to: int) -> None:
    await node.runtime.run_writer(
        lambda: Message.objects.filter(channel_id=stream.id, seq__lte=up_to).delete(),
    )


# --- where a client continues ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "same_epoch", "expected"),
    [
        (2, True, Start(2, True)),
        (4, True, Start(4, True)),
        (0, True, Start(0, True)),
        (2, False, Start(0, False, 1)),
        (9, True, Start(0, False, 1)),
    ],
)
async def test_a_position_in_the_log(node: Node, stream: Stream, since: int, same_epoch: bool, expected: Start) -> None:
    assert await node.replays.start(stream, since, stream.epoch if same_epoch else new_epoch()) == expected


async def test_a_position_before_the_retention_is_a_hole(node: Node, stream: Stream) -> None:
    await _prune(node, stream, 2)
    assert await node.replays.start(stream, 2, stream.epoch) == Start(2, True)
    assert await node.replays.start(stream, 1, stream.epoch) == Start(2, False, 3)


async def test_a_position_ahead_of_this_process_is_read_from_the_log(node: Node, log: Log, stream: Stream) -> None:
    await log.append("five")
    assert await node.replays.start(stream, 5, stream.epoch) == Start(5, True)
    assert stream.head == 5


async def test_a_time_in_the_log(node: Node, log: Log, stream: Stream) -> None:
    moment = datetime.now(UTC)
    await node.runtime.run_writer(
        lambda: Message.objects.filter(channel_id=stream.id, seq__gt=2).update(created_at=moment + timedelta(hours=1))
    )
    text = (moment + timedelta(minutes=1)).isoformat()
    assert await node.replays.start(stream, text, None) == Start(4, True)  # It lies in the future.
    assert await node.replays.start(stream, (moment - timedelta(hours=1)).isoformat(), None) == Start(0, True)
    with pytest.raises(BusError, match="VALIDATION_ERROR"):
        await node.replays.start(stream, "yesterday", None)


def test_a_seq_needs_no_check() -> None:
    assert check_since(3).tzinfo is UTC


@pytest.mark.parametrize(
    ("start", "floor", "expected"),
    [
        (Start(5, True), 5, Start(5, True)),
        (Start(3, True), 5, Start(5, False, 6)),
        (Start(3, False, 9), 5, Start(5, False, 9)),
    ],
)
def test_a_client_gets_nothing_up_to_its_floor(start: Start, floor: int, expected: Start) -> None:
    assert start.behind(floor) == expected


# --- catching up ------------------------------------------------------------------------------------------------------------


async def test_a_short_replay_comes_from_memory_at_once(node: Node, log: Log, stream: Stream) -> None:
    await log.publish("five", "six")
    client = NodeClient(node)
    node.replays.catch_up(client.state, {stream: 4})
    assert client.state in stream.members
    assert not client.state.replays
    await client.message("six")
    assert client.texts() == ["five", "six"]


async def test_a_crowd_that_comes_back_shares_the_bytes_until_the_log_moves(
    node: Node, log: Log, stream: Stream
) -> None:
    await log.publish("five", "six")

    async def comes_back(last: str, *, behind: bytes = b"") -> list[str]:
        client = NodeClient(node)
        if behind:
            client.state.writer.send(behind)
        node.replays.catch_up(client.state, {stream: 4})
        await client.message(last)
        node.hub.remove(stream, client.state)
        return client.texts()

    batch = node.replays._batch(stream, 4)
    assert await comes_back("six") == ["five", "six"]
    assert await comes_back("six", behind=b'{"message":"first"}') == ["first", "five", "six"]
    assert batch is not None
    assert node.replays._batch(stream, 4) is batch
    await log.publish("seven")
    assert await comes_back("seven") == ["five", "six", "seven"]
    # What was erased is forgotten, and is read from the log.
    node.streams.forget_erased(stream.id, [6])
    assert node.replays._batch(stream, 4) is None


async def test_a_long_replay_is_read_and_ends_in_membership(node: Node, log: Log, stream: Stream) -> None:
    client = NodeClient(node)
    node.replays.catch_up(client.state, {stream: 0})
    assert client.state not in stream.members
    # Messages go on coming while it catches up.
    await log.publish("five")
    await client.message("five")
    await wait_for(lambda: client.state in stream.members, "the membership")
    assert not client.state.replays
    await log.publish("six")
    await client.message("six")
    assert client.texts() == ["one", "two", "three", "four", "five", "six"]


async def test_pages_end_where_the_next_ones_begin(node: Node, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 4)
    monkeypatch.setattr(replay, "CHUNK_BYTES", 600)
    monkeypatch.setattr(replay, "PAGE_BYTES", 1500)
    texts = [f"{n} {'x' * (n % 7) * 100}" for n in range(23)]
    await log.append(*texts)
    (stream,) = await node.streams.open([log.ref])
    clients = [NodeClient(node) for _ in range(3)]
    for position, client in enumerate(clients):
        node.replays.catch_up(client.state, {stream: position})
    for position, client in enumerate(clients):
        await client.message(texts[-1])
        assert client.texts() == texts[position:]


async def test_a_replay_ends_when_the_client_leaves(node: Node, stream: Stream) -> None:
    client = NodeClient(node)
    node.replays.catch_up(client.state, {stream: 0})
    client.state.replays.clear()
    await wait_for(lambda: not node.runtime.short_tasks, "the end of the replay")
    assert client.state not in stream.members
    assert client.closed is None


async def test_a_replay_that_the_retention_overtakes_closes_the_client(node: Node, stream: Stream) -> None:
    client = NodeClient(node)
    await _prune(node, stream, 3)
    node.replays.catch_up(client.state, {stream: 0})
    await wait_for(lambda: client.closed, "the end")
    assert client.closed == (SLOW, "TOO_SLOW")


async def test_a_socket_that_takes_nothing_ends_its_replay(
    node: Node, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = NodeClient(node)
    client.events.bounds = type(client.events.bounds)(bytes=1 << 26, frames=1000, deadline=0.01)
    monkeypatch.setattr(replay, "CHUNK_BYTES", 0)
    with pytest.raises(Closing) as closing:
        await node.replays.replay(client.state, stream, 0)
    assert closing.value.close_code == SLOW


async def test_a_client_without_the_right_to_history_starts_at_the_head(node: Node, log: Log, stream: Stream) -> None:
    client = NodeClient(node)
    allowed = await node.replays.start_for(client.state, log.ref, stream, 0, None)
    client.state.actor = Actor(scopes=frozenset({"join"}))
    refused = await node.replays.start_for(client.state, log.ref, stream, 0, None)
    assert (allowed, refused) == (Start(0, True), Start(4, False, 5))
