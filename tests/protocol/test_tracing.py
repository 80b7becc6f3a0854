"""The trace context: kept in its place where it has the form of the W3C, and else a key of the sender's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bus.protocol import frames
from bus.protocol.dialects import read_closely
from bus.protocol.inbound import Inbound

pytestmark = pytest.mark.pure

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def read(**keys: Any) -> Inbound:
    return read_closely(json.dumps({"message": "hi", **keys}).encode())


def delivered(inbound: Inbound) -> dict[str, Any]:
    """The keys of the delivered message after its time."""
    found: dict[str, Any] = json.loads(b"{" + frames.message_tail(inbound)[1:])
    return found


def test_a_trace_context_stands_at_the_top_of_the_message() -> None:
    found = read(traceparent=PARENT, tracestate="rojo=00f067aa0ba902b7,a@b=t61", own=1)
    assert delivered(found) == {
        "traceparent": PARENT, "tracestate": "rojo=00f067aa0ba902b7,a@b=t61", "payload": {"message": "hi"}, "message": "hi",
        "metadata": {"own": 1},
    }  # fmt: skip
    assert next(iter(delivered(found))) == "traceparent"


@pytest.mark.parametrize(
    "keys",
    [
        {"type": "private", "to": ["bob"]},
        {"type": "reply", "to_message": "arq_q1"},
        {"channel": "a:b", "stream": {}},
        {"eventType": "x", "payload": {}},
    ],
)
def test_every_message_may_have_one(keys: dict[str, Any]) -> None:
    found = read(traceparent=PARENT, **keys)
    assert found.trace == b',"traceparent":"%b"' % PARENT.encode()
    assert found.metadata is None
    assert delivered(found)["traceparent"] == PARENT


@pytest.mark.parametrize(
    "parent",
    [
        None, 5, "", PARENT.upper(), PARENT + "-x", PARENT[:-1], "ff" + PARENT[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", {"a": PARENT},
    ],
)  # fmt: skip
def test_anything_else_is_the_senders_own_key(parent: Any) -> None:
    found = read(traceparent=parent, tracestate="a=b")
    assert found.trace == b""
    assert delivered(found)["metadata"] == {"traceparent": parent, "tracestate": "a=b"}


@pytest.mark.parametrize(
    "state",
    [
        None, 5, "", "a", "A=b", "a=b,", "a=b;c\n=d", "a=" + "x" * 257, 'a="', ",".join(["k=v"] * 33),
        ",".join(["k=" + "v" * 120] * 5),
    ],
)  # fmt: skip
def test_a_wrong_state_stays_behind(state: Any) -> None:
    found = read(traceparent=PARENT, tracestate=state)
    assert found.trace == b',"traceparent":"%b"' % PARENT.encode()
    assert delivered(found)["metadata"] == {"tracestate": state}


def test_the_longest_state_is_kept() -> None:
    state = ",".join([f"k{n}={'v' * 120}" for n in range(4)] + ["z=" + "w" * 10])
    assert len(state) <= 512
    assert read(traceparent=PARENT, tracestate=state).metadata is None
