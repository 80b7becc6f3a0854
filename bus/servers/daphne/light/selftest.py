"""The self-test of light connections: the same bytes give the same scope, answers and messages as daphne's own protocol gives."""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from ....realtime.frame import masked_frame
from ...selftest import HANDSHAKE, OPEN, sample
from ..writer import opened_protocol
from .connection import Light
from .sockets import Sockets, usual

#: A handshake with all that a browser sends.
_BROWSER = HANDSHAKE.replace(
    b"GET / ",
    b"GET /ws/?a=b&c=%20 ",
).replace(
    b"\r\n\r\n",
    b"\r\nOrigin: http://localhost:3000\r\nCookie: sessionid=a; b=c\r\nUser-Agent: Test/1.0 (any)\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    b"Sec-WebSocket-Protocol: arqonbus.v1, bearer.a-b_c\r\n\r\n",
)


class _Quiet(Light):
    """A light connection without tasks: its events are kept."""

    __slots__ = ("events",)

    def __init__(self, sockets: Sockets, transport: Any) -> None:
        self.events: deque[dict[str, Any]] = deque()
        super().__init__(sockets, transport)

    def _enqueue(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    put_nowait = _enqueue

    def _queued(self) -> int:
        return len(self.events)


def fault() -> str | None:
    """The self-test. Returns what is wrong, or None."""
    closing = masked_frame(b"\x03\xe8", b"\x0a\xf1\x80\x07", first=0x88)
    stream = sample() + closing
    for handshake, subprotocol in ((HANDSHAKE, None), (_BROWSER, "arqonbus.v1")):
        ordinary = _ordinary(handshake, subprotocol, stream)
        for step in (len(stream), 61):
            if _light(handshake, subprotocol, stream, step) != ordinary:
                return "a light connection does not give what daphne's own gives"
    return None


def _ordinary(handshake: bytes, subprotocol: str | None, stream: bytes) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        protocol = opened_protocol(ours, handshake, subprotocol)
        answered = _taken(protocol.transport)
        protocol.failByDrop = False
        protocol.dataReceived(stream)
        return protocol.server.scope, answered, _messages(protocol.application_queue.queue), _taken(protocol.transport)


def _light(handshake: bytes, subprotocol: str | None, stream: bytes, step: int) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # The server and the transport of the self-tests of reader and writer.
        protocol = opened_protocol(ours)
        transport, server = protocol.transport, protocol.server
        server.ws_factory = protocol.factory
        _taken(transport)
        if not usual(server.ws_factory):
            return "Autobahn has other options"
        sockets = Sockets(server, lambda _: None)
        taken = sockets.read(handshake, transport)
        if taken is None:
            return "a usual handshake is not taken"
        head, scope = taken
        light = _Quiet(sockets, transport)
        messages: list[bytes] = []
        transport.protocol = light
        light.begin(OPEN, messages.append, is_registered=lambda: True)
        for position in range(0, len(stream), step):
            light.dataReceived(stream[position : position + step])
            messages += _messages(light.events)
        return scope, sockets.answer(head, subprotocol), messages, _taken(transport)


def _taken(transport: Any) -> bytes:
    """What waits in the buffer of a transport, which is empty then."""
    waits: bytes = transport.dataBuffer[transport.offset :] + b"".join(transport._tempDataBuffer)
    transport.dataBuffer, transport._tempDataBuffer, transport._tempDataLen, transport.offset = b"", [], 0, 0
    return waits


def _messages(events: deque[Any]) -> list[bytes]:
    found = []
    while events:
        event = events.popleft()
        text = event.get("text")
        found.append(text.encode() if text is not None else event.get("bytes") or b"")
    return found
