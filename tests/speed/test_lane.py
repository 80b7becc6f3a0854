"""The lane and the Python code do the same: the same bytes, however they are cut, have the same outcome."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus._speed import core
from bus.auth.permissions import SYSTEM
from bus.node import current
from bus.protocol.names import Address
from bus.realtime.frame import masked_frame
from bus.realtime.reader import Lane
from bus.services import channels as channel_service
from bus.testing import live_bus
from tests.speed.sides import MASK, Side, settled

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(core is None, reason="the extension was not built"),
]

#: A key's value that leaves the key out.
ABSENT = object()


def _sometimes(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([ABSENT, ABSENT, *values])


def _as_json(keys: dict[str, Any]) -> bytes:
    return json.dumps({key: value for key, value in keys.items() if value is not ABSENT}).encode()


#: Usual frames, as the lane takes them.
plain = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["event", "event", "message", ABSENT]),
        "id": _sometimes("m1", "m2", "m3", "arq_m4", "x" * 128, None),
        "room": _sometimes("ROOM", ""),
        "channel": st.sampled_from(["main", "quick", "quick", "other", ABSENT]),
        "payload": _sometimes({}, {"d": 1}, {"message": "in"}, {"d": "x" * 200}),
        "message": _sometimes("hello", None),
        "metadata": _sometimes({"m": 1}),
        "timestamp": _sometimes("2026-01-01T00:00:00.000Z"),
        "ack": st.sampled_from([True, False, ABSENT]),
        "echo": _sometimes(True, False),
    }
).map(_as_json)

#: Frames in which each key may have a value that makes it unusual, or wrong.
frames = st.fixed_dictionaries(
    {
        "type": _sometimes("event", "event", "message", "note", "system", "ack", "é", "a\u0000", "x" * 65, 7),
        "id": _sometimes("m1", "m2", "arq_m3", "a b", "ü", "", "x" * 128, "x" * 129, None),
        "room": _sometimes("ROOM", "ROOM", "ROOM:main", "ROOM:other", "", "other room", "*"),
        "channel": _sometimes("main", "quick", "quick", "other", "ROOM:quick", "pm", "new", "no/name"),
        "payload": _sometimes(
            {}, {"d": 1}, {"message": "in"}, {"to": "x"}, {"d": "é\n"}, [], None, {"n": [1.5e300, -0]}
        ),
        "message": _sometimes("hello", "", 7, None, {"a": "b"}),
        "metadata": _sometimes({}, {"m": 1}, "wrong"),
        "timestamp": _sometimes("2026-01-01T00:00:00.000Z", "soon", 7),
        "version": _sometimes(None, "1.0", "2.0"),
        "ack": _sometimes(True, True, False, "yes"),
        "echo": _sometimes(True, False, None),
        "from": _sometimes("somebody"),
        "sent_at": _sometimes(1),
    }
).map(_as_json)

#: What is no such frame: other JSON, no JSON, no text; a frame that goes to the server begins with NUL.
oddities = st.sampled_from(
    [
        b"{}",
        b"[]",
        b"",
        b"{",
        b'{"channel":"main","payload":{"n":1e999}}',
        b'{"channel":"main","channel":"quick"}',
        b'{"channel":"m\\u0061in","ack":true}',
        b'{"type":"command","command":"ping","id":"c1"}',
        b'{"type":"private","to":"nobody-here","message":"x"}',
        b'{"payload":' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b'{"message":"' + b"x" * 5000 + b'"}',
        b'{"message":"\xff"}',
        b"\0" + masked_frame(b"ping", MASK, first=0x89),
        b"\0" + masked_frame(b'{"message":"in two ', MASK, first=0x01) + masked_frame(b'parts"}', MASK, first=0x80),
    ]
)

USUAL = [
    b'{"type":"event","room":"ROOM","channel":"main","payload":{"d":1},"ack":true}',
    b'{"type":"event","room":"ROOM","channel":"quick","payload":{"d":1},"ack":true}',
    b'{"type":"event","channel":"quick","id":"m%d","message":"x","echo":true}',
    b'{"channel":"other","id":"o%d","message":"x","ack":true}',
]


def _sides(number: int) -> list[Side]:
    node = current()
    return [Side(node, f"{name}{number:03}", compiled=name == "fast") for name in ("fast", "slow")]


async def _opened(number: int) -> list[Side]:
    sides = _sides(number)
    for side in sides:
        address = Address(side.name, "quick")
        await sync_to_async(channel_service.create_channel)(SYSTEM, address, ephemeral=True, door="test")
        await side.open()
    return sides


def _differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where two outcomes differ, in a few words."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in {**ours, **theirs}:
            yield from _differences(ours.get(key), theirs.get(key), f"{path}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        for number, (mine, other) in enumerate(zip_longest(ours, theirs)):
            yield from _differences(mine, other, f"{path}/{number}")
    elif ours != theirs:
        yield f"{path}: {str(ours)[:300]} with the lane, {str(theirs)[:300]} without"


async def _compare(sides: list[Side]) -> None:
    await settled(sides)
    fast, slow = sides
    ours, theirs = fast.outcome(), slow.outcome()
    found = "\n".join(_differences(ours, theirs))
    if found:
        pytest.fail(found)
    assert await sync_to_async(fast.rows)() == await sync_to_async(slow.rows)()


async def _close(sides: list[Side]) -> None:
    for side in sides:
        for peer in (side.sender, *side.members):
            await peer.connection.closed(1000)


def test_the_same_bytes_have_the_same_outcome_however_they_are_cut() -> None:
    taken: list[bool] = []

    with asyncio.Runner() as runner:
        bus = live_bus()

        async def begin() -> None:
            await bus.__aenter__()
            await current().start()

        runner.run(begin())
        number = 0
        sides: list[Side] = []

        async def both(sent: list[bytes], cuts: list[int], tokens: tuple[int, int]) -> None:
            nonlocal sides, number
            if not sides or sides[0].sender.writer.closed:
                await _close(sides)
                number += 1
                sides = await _opened(number)
                _count(sides[0], taken)
                for _ in range(2):  # so that the lane has learnt them
                    for side in sides:
                        await side.send([frame % number if b"%d" in frame else frame for frame in USUAL], [])
            for side in sides:
                side.fill(*tokens)
                await side.send(sent, cuts)
            await _compare(sides)

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(
            st.lists(plain | plain | plain | plain | st.sampled_from(USUAL) | frames | oddities, max_size=12),
            st.lists(st.integers(0, 1000), max_size=4),
            st.sampled_from([(100, 0), (100, 0), (100, 100), (6, 100), (100, 4)]),
        )
        def compared(sent: list[bytes], cuts: list[int], tokens: tuple[int, int]) -> None:
            runner.run(both(sent, cuts, tokens))

        try:
            compared()
            runner.run(_close(sides))
        finally:
            runner.run(bus.__aexit__(None, None, None))
    assert sum(taken) > 10, "the lane took nearly nothing, so nothing was compared"


class Counting:
    """A lane that counts how often it takes frames."""

    largest = 65_535

    def __init__(self, lane: Lane, taken: list[bool]) -> None:
        self._lane = lane
        self._taken = taken

    def take(self, data: bytes, position: int, /) -> int:
        """As the lane does."""
        self._lane.largest = self.largest
        after = self._lane.take(data, position)
        self._taken.append(after > position)
        return after


def _count(side: Side, taken: list[bool]) -> None:
    lane = side.sender.lane
    assert lane is not None
    side.sender.reader._lane = Counting(lane, taken)
