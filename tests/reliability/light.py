"""A client that costs little, for tests with a thousand of them: a bare WebSocket that parses only what it must."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from typing import Any

_SEQ = re.compile(rb'"seq":(\d+)')


class LightClient(asyncio.Protocol):
    """One connection. `seqs` are those of the delivered messages of its channel, in the order in which they came."""

    def __init__(self, port: int, registration: dict[str, Any]) -> None:
        self.port = port
        self.registration = registration
        self.seqs: list[int] = []
        self.registered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()
        self._answers = 0
        self._answer = asyncio.Event()
        self._buffer = b""
        self._open = False
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, port: int, **registration: Any) -> LightClient:
        """Connect and register; returns once the server answered."""
        loop = asyncio.get_running_loop()
        client = cls(port, registration)
        await loop.create_connection(lambda: client, "127.0.0.1", port)
        await client.registered
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, problem: Exception | None) -> None:
        self.lost.set()
        if not self.registered.done():
            self.registered.set_exception(problem or ConnectionError("closed before it was registered"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        if not self._open:
            head, separator, buffer = buffer.partition(b"\r\n\r\n")
            if not separator:
                self._buffer = head
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._open = True
            self._send(self.registration)
        start, size = 0, len(buffer)
        while size - start >= 2:
            length, begin = buffer[start + 1], start + 2
            if length >= 126:
                width = 2 if length == 126 else 8
                length, begin = int.from_bytes(buffer[begin : begin + width], "big"), begin + width
            if size < begin or size - begin < length:
                break
            if buffer[start] == 0x81:
                self._frame(buffer[begin : begin + length])
            start = begin + length
        self._buffer = buffer[start:]

    def _frame(self, payload: bytes) -> None:
        if b'"event":"registered"' in payload and not self.registered.done():
            self.registered.set_result(json.loads(payload)["payload"])
        elif b'"type":"command_response"' in payload:
            self._answers += 1
            self._answer.set()
        elif b'"type":"event"' in payload:
            found = _SEQ.search(payload)
            if found is not None:
                self.seqs.append(int(found[1]))

    def request(self, frame: dict[str, Any]) -> None:
        """Send a command; `answered` waits for it."""
        self._send(frame)

    async def answered(self, count: int) -> None:
        """Wait until so many commands were answered."""
        while self._answers < count:
            self._answer.clear()
            await self._answer.wait()

    def _send(self, frame: dict[str, Any]) -> None:
        assert self._transport is not None
        data = json.dumps(frame).encode()
        size = len(data)
        head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0xFE]) + size.to_bytes(2, "big")
        # A mask of zeros is a mask.
        self._transport.write(head + b"\0\0\0\0" + data)

    def cut(self) -> None:
        """Drop the line without a word."""
        assert self._transport is not None
        self._transport.abort()

    async def resume(self, address: str) -> LightClient:
        """A new connection that goes on where this one stopped."""
        answer = self.registered.result()
        head = answer["channels"][address]
        position = self.seqs[-1] if self.seqs else head["seq"]
        fields = {key: value for key, value in self.registration.items() if key != "resume"}
        resume = {"token": answer["resume_token"], "positions": {address: {"epoch": head["epoch"], "seq": position}}}
        return await self.connect(self.port, **fields, resume=resume)
