"""Taking frames apart before the server's parser gives what that parser gives, however the bytes arrive."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import daphne.server  # noqa: F401 - installs Twisted's asyncio reactor before anything imports another
import pytest
from autobahn.websocket.protocol import WebSocketProtocol
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.realtime.frame import HANDSHAKE, masked_frame, text_frame, unmasked
from bus.realtime.odd_frames import FLOOD
from bus.realtime.reader import OPEN, Place, Reader
from bus.servers.daphne import reader as daphne_reader
from bus.servers.daphne import writer as daphne_writer
from bus.servers.selftest import passed
from bus.servers.uvicorn import reader as uvicorn_reader
from bus.servers.uvicorn import writer as uvicorn_writer

pytestmark = pytest.mark.pure

MASK = b"\x0a\xf1\x80\x07"

TEXT, BINARY, CONTINUED, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def frame(payload: bytes, kind: int = TEXT, *, final: bool = True) -> bytes:
    """A client's frame."""
    return masked_frame(payload, MASK, first=(0x80 if final else 0) | kind)


#: Texts of lengths around the borders of the three forms of a header, and of what is kept of an incomplete frame.
payloads = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.sampled_from([0, 1, 125, 126, 127, 4090, 4100, 65_535, 65_536]).map(lambda size: b"x" * size),
)


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """What a client may send: texts, fragments with control frames between them, binaries, now and then something wrong."""
    parts: list[bytes] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["text"] * 6 + ["binary", "ping", "fragments", "fragments", "broken"]))
        payload = draw(payloads)
        if kind == "text":
            parts.append(frame(payload))
        elif kind == "binary":
            parts.append(frame(payload, BINARY))
        elif kind == "ping":
            parts.append(frame(payload[:125], PING))
        elif kind == "fragments":
            middle = draw(st.integers(0, len(payload)))
            parts += [
                frame(payload[:middle], final=False),
                *([frame(b"?", PING)] if draw(st.booleans()) else []),
                frame(payload[middle:], CONTINUED),
            ]
        else:
            parts.append(
                draw(
                    st.sampled_from(
                        [
                            frame(b"\xff\xfe"),  # no UTF-8
                            text_frame(b"not masked"),
                            frame(b"a", CONTINUED),  # continues nothing
                            masked_frame(b"reserved", MASK, first=0xC1),
                            frame(b"\x03\xe8bye", CLOSE) + frame(b"behind the end"),
                            frame(b"b", final=False) + frame(b"within a message"),
                        ]
                    )
                )
            )
    return b"".join(parts)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """``data`` in parts, cut at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        yield data[start:end]


def content(event: dict[str, Any]) -> bytes:
    """The message of a server's event."""
    text = event.get("text")
    return text.encode() if text is not None else event.get("bytes") or b""


def on_daphne(parts: list[bytes], *, direct: bool) -> tuple[list[bytes], bytes, bool]:
    """The messages, the answers on the wire, and whether the connection is still open."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        protocol = daphne_writer.opened_protocol(ours)
        transport = protocol.transport
        transport.abortConnection = transport.loseConnection = lambda: None
        queue = protocol.application_queue.queue
        messages: list[bytes] = []
        if direct:
            assert daphne_reader.place_of(protocol) == Place()
            daphne_reader.DaphneReader(protocol).begin(OPEN, messages.append)
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


class Before(Reader):
    """A reader before `websockets`, with uvicorn's queue left out."""

    def __init__(self, server: Callable[[bytes], None], closed: Callable[[], bool] = lambda: False) -> None:
        super().__init__(server)
        self.closed = closed

    def feed(self, data: bytes) -> None:
        self._feed(data)

    def _leave(self) -> None: ...

    def _waiting(self) -> int:
        return 0

    def _ended(self) -> bool:
        return self.closed()

    def _enqueue(self, event: dict[str, Any]) -> None:
        raise AssertionError("nothing waits here")


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

    reader = Before(server, lambda: conn.state is not State.OPEN)
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


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_a_mask_is_taken_off_byte_by_byte(payload: bytes, mask: bytes) -> None:
    assert unmasked(payload, mask) == bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


class Queued(Before):
    """A reader with a queue that the test looks into."""

    def __init__(self) -> None:
        super().__init__(lambda data: self.server.append(data))
        self.server: list[bytes] = []
        self.queue: list[dict[str, Any]] = []

    def _waiting(self) -> int:
        return len(self.queue)

    def _enqueue(self, event: dict[str, Any]) -> None:
        self.queue.append(event)


class OpenOrClosed:
    """A writer as a reader sees it."""

    closed = False


def test_messages_wait_in_the_queue_while_the_owner_is_at_work_so_that_none_overtakes() -> None:
    reader = Queued()
    taken: list[bytes] = []

    def take(data: bytes) -> bytes | None:
        if data == b"slow":
            return b"rest of slow"
        taken.append(data)
        return None

    reader.feed(frame(b"early"))  # before the owner is ready
    reader.queue.clear()
    writer: Any = OpenOrClosed()
    reader.begin(writer, take)
    reader.feed(frame(b"one") + frame(b"slow") + frame(b"two"))
    assert taken == [b"one"]
    assert reader.queue == [
        {"type": "arqonbus.frame", "frame": b"rest of slow"},
        {"type": "websocket.receive", "bytes": b"two", "arqonbus.text": True},
    ]
    reader.queue.clear()
    reader.feed(frame(b"three"))
    assert [event["bytes"] for event in reader.queue] == [b"three"], "the owner is still busy"
    reader.queue.clear()
    reader.busy = False
    reader.feed(frame(b"four"))
    assert taken == [b"one", b"four"]
    writer.closed = True
    reader.feed(frame(b"five"))
    assert [event["bytes"] for event in reader.queue] == [b"five"], "a closed connection takes nothing by itself"


def test_a_long_frame_that_arrives_in_parts_is_not_gathered_in_memory() -> None:
    reader = Queued()
    reader.begin(OPEN, lambda data: None)
    long = frame(b"y" * 60_000)
    for start in range(0, len(long), 5000):
        reader.feed(long[start : start + 5000])
        assert len(reader._kept) <= 5000
    assert b"".join(reader.server) == long


def test_long_messages_are_no_flood_and_parts_of_messages_are() -> None:
    """However many: whole messages are what the limits of messages count."""
    floods: list[str] = []
    reader = Queued()
    reader.begin(OPEN, lambda data: None, floods.append, lambda: True)
    long = frame(b"y" * 66_000)
    for _ in range(3000):
        reader.feed(long[:30_000])
        reader.feed(long[30_000:])
        reader.server.clear()
    assert not floods
    parts = frame(b"", final=False) + frame(b"", CONTINUED)
    for _ in range(3000):
        reader.feed(parts)
    assert floods == [FLOOD], "said once; nothing more is read then"


@pytest.mark.parametrize("module", [daphne_writer, daphne_reader, uvicorn_writer, uvicorn_reader])
def test_the_installed_servers_pass_the_self_tests(module: Any) -> None:
    assert module.fault() is None


@pytest.mark.parametrize("raised", [False, True])
def test_a_failed_self_test_is_said_once_and_answered_with_no(caplog: pytest.LogCaptureFixture, raised: bool) -> None:
    def fault() -> str:
        if raised:
            raise AttributeError("the buffer has another name")
        return "the buffer has another name"

    with caplog.at_level(logging.WARNING, logger="arqonbus.realtime"):
        assert [passed("daphne", "frames in", fault) for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
    line = caplog.records[0].getMessage()
    assert "the buffer has another name" in line
    assert "daphne " in line
    assert "autobahn " in line
