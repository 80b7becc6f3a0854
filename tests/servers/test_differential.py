"""Whatever bytes come, in whatever segments: a reader in front of a server's parser changes nothing that anybody sees.

Messages, their order, what is answered and the close code in it, and after which segment: all of it is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from uvicorn.config import Config

from bus.servers.selftest import OPEN
from bus.servers.uvicorn.reader import UvicornReader
from tests.servers import streams
from tests.servers.streams import (
    Seen,
    frame_by_frame,
    on_daphne,
    on_uvicorn,
    opened_on_uvicorn,
    stream,
    until_closed,
    uvicorn_config,
    waiting,
)

pytestmark = pytest.mark.pure

SERVERS = ["daphne", "uvicorn"]


#: Streams of one test of `make chaos`: a few minutes, so that all of them end on any machine.
PART = 5_000


def many(few: int, more: int) -> list[Any]:
    """Numbers of streams: few in `make test`, more in `make chaos`, a part in each test."""
    parts = [range(begun, min(begun + PART, more)) for begun in range(0, more, PART)]
    marks = [pytest.mark.chaos, pytest.mark.timeout(900)]
    return [
        pytest.param(range(few), id="few"),
        *(pytest.param(part, id=f"{part.start}-{part.stop}", marks=marks) for part in parts),
    ]


def way_of(server: str) -> Callable[[list[bytes], bool | None], Seen]:
    """How a server reads segments; with a direct reader, one that only counts, or none."""
    if server == "daphne":
        return lambda segments, direct: on_daphne(segments, direct=direct)
    config = uvicorn_config()
    return lambda segments, direct: on_uvicorn(segments, config, direct=direct)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("numbers", many(1_000, 50_000))
def test_a_reader_changes_nothing_that_anybody_sees(server: str, numbers: range) -> None:
    read = way_of(server)
    taken = refused = 0
    for number in numbers:
        segments = stream(random.Random(f"bytes {number}"))
        alone = read(segments, None)
        assert read(segments, True) == alone, f"stream {number}: {segments}"
        if not number % 5:
            assert read(segments, False) == alone, f"stream {number}, only counted: {segments}"
        taken += sum(len(messages) for messages, _, _ in alone)
        refused += not alone[-1][2]
    # It tried both what is taken and what is refused.
    assert taken > len(numbers) // 2
    assert len(numbers) // 10 < refused < len(numbers)


class Counting(UvicornReader):
    """A direct reader that tells how many bytes came, or (not ``direct``) uvicorn alone."""

    __slots__ = ("came", "with_reader")

    def __init__(self, protocol: Any, *, direct: bool) -> None:
        self.came = 0
        self.with_reader = direct
        super().__init__(protocol)

    def feed(self, data: bytes) -> None:
        self.came += len(data)
        (super().feed if self.with_reader else self._parse)(data)


async def over_a_socket(segments: list[bytes], config: Config, *, direct: bool) -> Seen:
    """What uvicorn's protocol makes of them on a real transport of the running loop."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    protocol = opened_on_uvicorn(config, transport, loop)
    messages: list[bytes] = []
    reader = Counting(protocol, direct=direct)
    reader.begin(OPEN, messages.append, is_registered=lambda: True)
    seen: Seen = []
    sent = 0
    async with asyncio.timeout(20):
        for parts in frame_by_frame(segments):
            for part in [b"".join(parts)] if direct else parts:
                if not transport.is_closing():
                    await loop.sock_sendall(theirs, part)
                    sent += len(part)
                while reader.came < sent and not transport.is_closing():
                    # uvicorn stops reading while a message waits for the application.
                    messages += waiting(protocol)
                    protocol.read_paused = False
                    transport.resume_reading()
                    await asyncio.sleep(0)
                messages += waiting(protocol)
            seen.append((list(messages), b"", not transport.is_closing()))
            messages.clear()
        transport.close()
        answers = b""
        with contextlib.suppress(ConnectionError):
            while chunk := await loop.sock_recv(theirs, 65536):
                answers += chunk
    theirs.close()
    return [*seen, ([], until_closed(answers), False)]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("numbers", many(100, 2_000))
def test_on_a_real_transport_too(loop: Callable[[], asyncio.AbstractEventLoop], numbers: range) -> None:
    config = uvicorn_config()

    async def run() -> None:
        for number in numbers:
            segments = [part for part in stream(random.Random(f"socket {number}")) if len(part) < 60_000]
            if segments:
                alone = await over_a_socket(segments, config, direct=False)
                assert await over_a_socket(segments, config, direct=True) == alone, f"stream {number}: {segments}"

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def test_the_streams_are_of_every_kind() -> None:
    """They hold what a reader could take for something else: lengths not in their shortest form, faults behind texts."""
    whole = b"".join(b"".join(stream(random.Random(number))) for number in range(300))
    assert b"\x81\xfe\x00\x05" in whole
    assert b"\x81\xff\x00\x00\x00\x00\x00\x00\x00" in whole
    assert streams.stream(random.Random(1)) == streams.stream(random.Random(1))
