"""The reader before the parser of ``websockets`` gives what that parser gives, however the bytes arrive."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.servers.selftest import HANDSHAKE, OPEN, PlainReader
from bus.servers.uvicorn.reader import fault
from tests.realtime.conversations import CLOSE, conversations, pieces

pytestmark = pytest.mark.pure


def on_websockets(parts: list[bytes], *, direct: bool) -> tuple[list[bytes], bytes, Any]:
    """The messages, the answers on the wire, and the close code that was sent."""
    from websockets.http11 import Request
    from websockets.protocol import State
    from websockets.server import ServerProtocol

    conn = ServerProtocol()
    conn.receive_data(HANDSHAKE)
    (request,) = conn.events_received()
    assert isinstance(request, Request)
    conn.send_response(conn.accept(request))
    conn.data_to_send()
    assert not conn.reader.buffer
    messages: list[bytes] = []
    parts_of_one: list[bytes] = []

    def server(data: bytes) -> None:
        conn.receive_data(data)
        for event in conn.events_received():
            if event.opcode < CLOSE:  # type: ignore[union-attr]
                parts_of_one.append(bytes(event.data))  # type: ignore[union-attr]
                if event.fin:  # type: ignore[union-attr]
                    messages.append(b"".join(parts_of_one))
                    parts_of_one.clear()

    reader = PlainReader(server, lambda: conn.state is not State.OPEN)
    reader.begin(OPEN, messages.append)
    for part in parts:
        (reader.feed if direct else server)(part)
    return messages, b"".join(conn.data_to_send()), conn.close_sent and conn.close_sent.code


def valid_until_the_end(messages: list[bytes]) -> list[bytes]:
    """Without what uvicorn itself refuses: `websockets` leaves the check of a text to its caller."""
    for place, message in enumerate(messages):
        try:
            message.decode()
        except UnicodeDecodeError:
            return messages[:place]
    return messages


@settings(max_examples=150, deadline=None)
@given(conversations(), st.lists(st.integers(0, 1 << 20), max_size=6))
def test_websockets_reads_the_same_with_the_reader_in_front_as_without_it(data: bytes, cuts: list[int]) -> None:
    parts = list(pieces(data, cuts))
    ours, plain = on_websockets(parts, direct=True), on_websockets(parts, direct=False)
    assert valid_until_the_end(ours[0]) == valid_until_the_end(plain[0])
    assert ours[1:] == plain[1:]


def test_the_installed_version_passes_the_self_test() -> None:
    assert fault() is None
