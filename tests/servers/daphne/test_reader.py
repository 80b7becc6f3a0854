"""The reader before Autobahn's parser gives what that parser gives, however the bytes arrive."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import daphne.server  # noqa: F401 - installs Twisted's asyncio reactor before anything imports another
import pytest
from autobahn.websocket.protocol import WebSocketProtocol
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.realtime.reader import Place
from bus.servers.adapter import Pings
from bus.servers.daphne import reader
from bus.servers.daphne.reader import (
    HIGH_BYTES,
    HIGH_FRAMES,
    UNREGISTERED_BYTES,
    BoundedQueue,
    DaphneReader,
    fault,
    place_of,
)
from bus.servers.daphne.writer import opened_protocol
from bus.servers.selftest import OPEN
from tests.harness.waiting import wait_for
from tests.realtime.conversations import content, conversations, pieces

pytestmark = pytest.mark.pure


def on_daphne(parts: list[bytes], *, direct: bool) -> tuple[list[bytes], bytes, bool]:
    """The messages, the answers on the wire, and whether the connection is still open."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        protocol = opened_protocol(ours)
        transport = protocol.transport
        transport.abortConnection = transport.loseConnection = lambda: None
        queue = protocol.application_queue.queue
        messages: list[bytes] = []
        if direct:
            assert place_of(protocol) == Place()
            DaphneReader(protocol).begin(OPEN, messages.append)
        for part in parts:
            transport.protocol.dataReceived(part)
            messages += [content(event) for event in queue]
            queue.clear()
        answers = transport.dataBuffer[transport.offset :] + b"".join(transport._tempDataBuffer)
        return messages, answers, protocol.state == WebSocketProtocol.STATE_OPEN


@settings(max_examples=150, deadline=None)
@given(conversations(), st.lists(st.integers(0, 1 << 20), max_size=6))
def test_daphne_reads_the_same_with_the_reader_in_front_as_without_it(data: bytes, cuts: list[int]) -> None:
    parts = list(pieces(data, cuts))
    assert on_daphne(parts, direct=True) == on_daphne(parts, direct=False)


@pytest.fixture
def protocol() -> Iterator[Any]:
    """Daphne's protocol after its handshake, with a queue as daphne's server makes it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = opened_protocol(ours)
        made.application_queue = asyncio.Queue()
        yield made


def unread(queue: BoundedQueue) -> bool:
    """Whether the socket is left unread."""
    return queue.paused


def fill(queue: BoundedQueue, count: int, size: int) -> None:
    """So many messages of so many bytes wait."""
    for _ in range(count):
        queue.put_nowait({"type": "websocket.receive", "text": "x" * size})


async def test_the_socket_is_left_unread_while_too_much_waits(protocol: Any) -> None:
    queue = reader._bound(protocol)
    assert queue is not None
    fill(queue, 1, UNREGISTERED_BYTES)
    assert not unread(queue), "one message may be of any size"
    fill(queue, 1, 1)
    assert unread(queue), "an unregistered client may not have a second one behind it"
    queue.is_registered = lambda: True
    queue.get_nowait()
    assert not unread(queue)
    fill(queue, HIGH_FRAMES - 1, 1)
    assert not unread(queue)
    fill(queue, 1, 1)
    assert unread(queue)
    while queue.qsize() > HIGH_FRAMES // 2 + 1:
        queue.get_nowait()
        assert unread(queue)
    queue.get_nowait()
    assert not unread(queue)
    fill(queue, 2, HIGH_BYTES // 2)
    assert unread(queue)


async def test_a_connection_that_the_bus_closes_keeps_no_messages_and_a_flooder_is_cut(
    protocol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LINGER", 0.01)
    queue = reader._bound(protocol)
    assert queue is not None
    fill(queue, 3, 10)
    queue.put_nowait({"type": "websocket.disconnect", "code": 1000})
    queue.discard(flood=True)
    fill(queue, 3, 10)
    assert [event["type"] for event in queue._queue] == ["websocket.disconnect"]
    assert unread(queue)
    await wait_for(lambda: protocol.transport._aborting, "the connection is cut")


def test_a_queue_of_another_kind_is_left_alone(protocol: Any) -> None:
    protocol.application_queue = object()
    assert reader._bound(protocol) is None


def test_pings_follow_the_settings_unless_the_command_line_has_its_own(protocol: Any) -> None:
    options: list[dict[str, Any]] = []
    factory = SimpleNamespace(setProtocolOptions=lambda **given: options.append(given))
    protocol.server = SimpleNamespace(ping_interval=20, ping_timeout=30, ws_factory=factory)
    assert reader.set_pings(protocol.server, Pings(0.0, 7.0))
    assert protocol.server.ping_interval == float("inf")
    assert options == [{"autoPingTimeout": 7.0, "allowNullOrigin": True}]
    protocol.server = SimpleNamespace(ping_interval=5, ping_timeout=9, ws_factory=factory)
    assert not reader.set_pings(protocol.server, Pings(3.0, 8.0))
    assert (protocol.server.ping_interval, len(options)) == (5, 1)


def test_the_installed_version_passes_the_self_test() -> None:
    assert fault() is None
