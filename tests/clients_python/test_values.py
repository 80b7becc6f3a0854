"""What no reader need take is refused by the client itself, before anything is sent: no outcome of it is unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import arqonbus
from arqonbus import errors
from arqonbus.values import DEPTH, LARGEST, SMALLEST, encode
from bus.protocol.limits import nesting_within
from bus.protocol.numbers import out_of_range
from tests.clients_python.conftest import Connect


def nested(levels: int) -> dict[str, Any]:
    """A frame of so many levels, itself counted."""
    inner: Any = 1
    for level in range(levels - 1):
        inner = [inner] if level % 2 else {"in": inner}
    return {"payload": inner}


BAD: dict[str, Any] = {
    "half an emoji": "\ud83d",
    "half an emoji as a key": {"\udc00": 1},
    "a large number": 2**64,
    "a small number": -(2**63) - 1,
    "five thousand digits": 10**5000,
    "infinity": float("inf"),
    "no number": float("nan"),
    "too deep": nested(DEPTH),
    "far too deep": nested(2000),
}


@pytest.mark.embedded
@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
async def test_it_is_refused_at_once_and_sent_by_nobody(client: Connect, fresh_room: str, value: Any) -> None:
    bus = await client()
    for ack in (True, False):
        with pytest.raises(arqonbus.errors.Unsendable) as refused:
            await bus.publish(f"{fresh_room}:talk", {"value": value}, ack=ack)
        assert isinstance(refused.value, (ValueError, errors.ValidationFailed))
        assert refused.value.code == "VALIDATION_ERROR"
    with pytest.raises(errors.Unsendable):
        await bus.private("nobody", {"value": value})
    with pytest.raises(errors.Unsendable):
        await bus.ping({"value": value})
    assert not bus._requests.repeatable(), "nothing of it is sent after a break"
    assert (await bus.ping())["pong"]


@pytest.mark.embedded
async def test_what_is_taken_arrives_as_it_was(client: Connect, fresh_room: str) -> None:
    bus = await client()
    payload = {"whole": [SMALLEST, LARGEST, 0], "text": "😀\x7f\u2028", "fraction": [1e308, 5e-324], "deep": nested(29)}
    async with bus.subscribe(f"{fresh_room}:talk", echo=True) as messages:
        await bus.publish(f"{fresh_room}:talk", payload)
        assert (await messages.get(20)).payload == payload


@pytest.mark.pure
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from([SMALLEST, SMALLEST - 1, LARGEST, LARGEST + 1])
        | st.floats()
        | st.text(st.characters(exclude_categories=()), max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=20,
    ),
    st.integers(0, 40),
)
def test_what_the_client_sends_the_server_takes(value: Any, levels: int) -> None:
    for _ in range(levels):
        value = [value]
    frame = {"type": "event", "payload": value}
    try:
        text = encode(frame)
    except errors.Unsendable:
        assert unreadable(frame)
        return
    data = text.encode()
    assert nesting_within(data, DEPTH)
    assert out_of_range(data) is None
    assert json.loads(data) == json.loads(json.dumps(frame))


def unreadable(frame: dict[str, Any]) -> bool:
    """Whether the server would not have taken it either."""
    try:
        data = json.dumps(frame, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return True
    return not nesting_within(data, DEPTH) or out_of_range(data) is not None
