"""Streams of bytes as a client may send them, by chance, and what each way of reading them comes to."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from bus.realtime.frame import MAX_FRAME, masked_frame
from bus.realtime.reader import Reader
from bus.servers.daphne import writer as daphne_writer
from bus.servers.daphne.reader import DaphneReader
from bus.servers.selftest import HANDSHAKE, OPEN
from bus.servers.uvicorn.reader import UvicornReader

#: What was seen after each segment: the messages it brought, what the server answered, and whether it still listens.
Seen = list[tuple[list[bytes], bytes, bool]]

_TEXTS = [
    b"", b"{}", b'{"a":"\xc3\xa4"}', b"x" * 125, b"x" * 126, b"x" * 300, b"\xf0\x9f\x98\x80" * 20, b"x" * 4100, b"x" * 65_535,
    b"x" * 65_536,
]  # fmt: skip
#: What is no UTF-8, or becomes none: cut, surrogates, overlong, beyond the last code point.
_FAULTY_TEXTS = [
    b"\xff", b"ok \xc3", b"\xed\xa0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98", b"a" * 200 + b"\xc0\xaf",
]  # fmt: skip
_CLOSES = [b"", b"\x03\xe8", b"\x03\xe8bye", b"\x03", b"\x00\x01", b"\x03\xe8\xff", b"\x0f\xa0own"]


def stream(chance: random.Random) -> list[bytes]:
    """What a client sends, in the segments in which it arrives: usual, rare, faulty, or noise."""
    data = b"".join(_piece(chance) for _ in range(chance.randint(1, 6)))
    if chance.random() < 0.1:
        place = chance.randrange(len(data) + 1)
        data = data[:place] + chance.randbytes(chance.randint(1, 20)) + data[place:]
    if chance.random() < 0.1 and data:
        place = chance.randrange(len(data))
        data = data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
    return list(_cut(chance, data))


def _piece(chance: random.Random) -> bytes:
    kind = chance.random()
    mask = chance.randbytes(4)
    if kind < 0.4:
        return masked_frame(chance.choice(_TEXTS), mask)
    if kind < 0.5:
        return masked_frame(chance.choice(_FAULTY_TEXTS), mask)
    if kind < 0.6:
        return masked_frame(chance.choice(_TEXTS)[:125], mask, first=chance.choice((0x89, 0x8A)))
    if kind < 0.65:
        return masked_frame(chance.choice(_TEXTS), mask, first=0x82)
    if kind < 0.75:
        # A message in parts, perhaps with a control frame between them, perhaps cut within a letter, perhaps not ended.
        text = chance.choice(_TEXTS + _FAULTY_TEXTS)
        places = sorted(chance.randint(0, len(text)) for _ in range(chance.randint(1, 3)))
        parts = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
        frames = [masked_frame(part, mask, first=0x00) for part in parts]
        frames[0] = b"\x01" + frames[0][1:]
        if chance.random() < 0.9:
            frames[-1] = bytes([frames[-1][0] | 0x80]) + frames[-1][1:]
        if chance.random() < 0.3:
            frames.insert(chance.randrange(len(frames)), masked_frame(b"?", mask, first=0x89))
        return b"".join(frames)
    if kind < 0.85:
        # A length that is not in its shortest form, also a huge one with nothing behind it.
        size = chance.choice((0, 5, 125, 126, 300))
        body = chance.randbytes(size) if chance.random() < 0.3 else b"x" * size
        masked = masked_frame(body, mask)[-(size + 4) :]
        first = bytes([chance.choice((0x81, 0x81, 0x82, 0x01, 0x89))])
        if chance.random() < 0.5:
            return first + b"\xfe" + size.to_bytes(2, "big") + masked
        return first + b"\xff" + (size | chance.choice((0, 0, 1 << 63, 1 << 20))).to_bytes(8, "big") + masked
    if kind < 0.9:
        return masked_frame(chance.choice(_CLOSES), mask, first=0x88)
    if kind < 0.95:
        # Any first byte, masked or not.
        whole = masked_frame(chance.choice(_TEXTS), mask, first=chance.randrange(256))
        return whole if chance.random() < 0.7 else bytes([whole[0], whole[1] & 0x7F]) + whole[2:]
    return chance.randbytes(chance.randint(1, 40))


def _cut(chance: random.Random, data: bytes) -> Iterator[bytes]:
    way = chance.random()
    if way < 0.3:
        places = []
    elif way < 0.4 and len(data) <= 400:
        places = list(range(1, len(data)))
    else:
        # Near the beginning, where the headers are, and anywhere.
        places = [chance.randint(0, min(len(data), 20)) for _ in range(2)]
        places += [chance.randint(0, len(data)) for _ in range(chance.randint(1, 5))]
    for start, end in pairwise(sorted({0, *places, len(data)})):
        yield data[start:end]


def on_daphne(segments: list[bytes], *, direct: bool | None) -> Seen:
    """What daphne's protocol, with Autobahn in it, makes of them: by itself (None), or behind a reader."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        protocol = daphne_writer.opened_protocol(ours)
        protocol.failByDrop = False
        protocol.maxMessagePayloadSize = protocol.maxFramePayloadSize = MAX_FRAME
        transport = protocol.transport
        state = SimpleNamespace(lost=False)

        def lose() -> None:
            state.lost = True

        transport.abortConnection = transport.loseConnection = lose
        transport.dataBuffer, transport._tempDataBuffer = b"", []
        queue = protocol.application_queue.queue
        messages: list[bytes] = []
        reader = _begun(None if direct is None else DaphneReader(protocol, direct=direct), messages)
        seen: Seen = []
        for segment in segments:
            if not state.lost:
                transport.protocol.dataReceived(segment)
            messages += [content(event) for event in queue if event["type"] == "websocket.receive"]
            queue.clear()
            answers = transport.dataBuffer[transport.offset :] + b"".join(transport._tempDataBuffer)
            transport.dataBuffer, transport._tempDataBuffer, transport.offset = b"", [], 0
            seen.append((list(messages), answers, protocol.state == protocol.STATE_OPEN and not state.lost))
            messages.clear()
        if reader is not None:
            reader.end()
        return seen


class Transport(asyncio.Transport):
    """As much of a transport as uvicorn asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        """Bytes for the client."""
        self.written.append(bytes(data))

    def close(self) -> None:
        """The server ends the line."""
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it did."""
        return self.closing

    def pause_reading(self) -> None:
        """Nothing reads here."""

    def resume_reading(self) -> None:
        """Nothing reads here."""

    def set_protocol(self, protocol: Any) -> None:
        """The test knows it."""


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """The tests do its work."""


def uvicorn_config() -> Config:
    """What uvicorn's protocol wants to know."""
    config = Config(
        _application,
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME,
        log_config=None,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
    )
    config.load()
    return config


def frame_by_frame(segments: list[bytes]) -> Iterator[list[bytes]]:
    """The segments, each cut where a frame ends.

    Of itself uvicorn drops messages that came in one segment with a fault behind them, and tells of the last fault of several.
    """
    data = b"".join(segments)
    ends, place = {0}, 0
    while place + 2 <= len(data):
        length, head = data[place + 1] & 0x7F, 2
        if length >= 126:
            head = 4 if length == 126 else 10
            length = int.from_bytes(data[place + 2 : place + head], "big")
        place += head + (4 if data[place + 1] & 0x80 else 0) + length
        ends.add(place)
    start = 0
    for segment in segments:
        end = start + len(segment)
        places = sorted({start, end} | {place for place in ends if start < place < end})
        yield [data[one:two] for one, two in pairwise(places)]
        start = end


def opened_on_uvicorn(config: Config, transport: Any, loop: Any) -> Any:
    """uvicorn's protocol after its handshake."""
    protocol = WebSocketsSansIOProtocol(config, ServerState(), {}, loop)
    protocol.connection_made(transport)
    protocol.conn.receive_data(HANDSHAKE)
    (request,) = protocol.conn.events_received()
    protocol.response = protocol.conn.accept(request)  # type: ignore[arg-type]
    protocol.conn.send_response(protocol.response)
    protocol.conn.data_to_send()
    protocol.handshake_initiated = protocol.handshake_complete = True
    return protocol


def on_uvicorn(segments: list[bytes], config: Config, *, direct: bool | None) -> Seen:
    """What uvicorn's protocol, with `websockets` in it, makes of them: by itself (None), or behind a reader."""
    transport = Transport()
    protocol = opened_on_uvicorn(config, transport, SimpleNamespace(call_later=None))
    messages: list[bytes] = []
    reader = _begun(None if direct is None else UvicornReader(protocol, direct=direct), messages)
    seen: Seen = []
    for parts in frame_by_frame(segments):
        for part in parts if direct is None else [b"".join(parts)]:
            if not transport.closing:
                protocol.data_received(part)
            messages += waiting(protocol)
        seen.append((list(messages), until_closed(b"".join(transport.written)), not transport.closing))
        messages.clear()
        transport.written.clear()
    if reader is not None:
        reader.end()
    return seen


def until_closed(answers: bytes) -> bytes:
    """The frames of a server up to its close frame, behind which nothing counts."""
    place = 0
    while place + 2 <= len(answers):
        size = answers[place + 1]
        head = 4 if size == 126 else 2
        end = place + head + (int.from_bytes(answers[place + 2 : place + 4], "big") if size == 126 else size)
        if answers[place] == 0x88:
            return answers[:end]
        place = end
    return answers


def waiting(protocol: Any) -> list[bytes]:
    """The messages in uvicorn's queue, which is empty afterwards."""
    events = [protocol.queue.get_nowait() for _ in range(protocol.queue.qsize())]
    return [content(event) for event in events if event["type"] == "websocket.receive"]


def content(event: dict[str, Any]) -> bytes:
    """The message of a server's event."""
    text = event.get("text")
    return text.encode() if text is not None else event.get("bytes") or b""


def _begun(reader: Reader | None, messages: list[bytes]) -> Reader | None:
    if reader is not None:
        reader.begin(OPEN, messages.append, is_registered=lambda: True)
    return reader
