"""The reader before Autobahn's parser gives what that parser gives, however the bytes arrive."""

from __future__ import annotations

import socket

import daphne.server  # noqa: F401 - installs Twisted's asyncio reactor before anything imports another
import pytest
from autobahn.websocket.protocol import WebSocketProtocol
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.realtime.reader import Place
from bus.servers.daphne.reader import DaphneReader, fault, place_of
from bus.servers.daphne.writer import opened_protocol
from bus.servers.selftest import OPEN
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


def test_the_installed_version_passes_the_self_test() -> None:
    assert fault() is None
