"""The reader's rule: whatever frames arrive in whatever legal order, a reader sees beginnings of the text and then all of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arqonbus.answers import as_message
from arqonbus.growing import RESET, Growing, Growth

pytestmark = pytest.mark.pure

PIECES = [f"{number}," for number in range(12)]
TEXT = "".join(PIECES)


def part(number: int) -> dict[str, Any]:
    return {"type": "append", "of": "arq_a1", "n": number, "delta": PIECES[number - 1]}


def snapshot(upto: int, attempt: int = 1, text: str | None = None) -> dict[str, Any]:
    text = "".join(PIECES[:upto]) if text is None else text
    return {"type": "append", "of": "arq_a1", "upto": upto, "text": text, "snapshot": True, "attempt": attempt,
            "mode": "text"}  # fmt: skip


def folded(upto: int, state: str = "open") -> dict[str, Any]:
    told = {"mode": "text", "state": state, "parts": upto, "end_seq": None if state == "open" else 8}
    return {"id": "arq_a1", "type": "event", "seq": 7, "stream": told, "message": "".join(PIECES[:upto])}


END = {
    "type": "stream_end", "seq": 8, "of": "arq_a1", "of_seq": 7, "untaken": ["arq_s1"], "message": TEXT,
    "stream": {"mode": "text", "state": "complete", "parts": len(PIECES)}, "payload": {"usage": 1},
}  # fmt: skip

#: A frame of the server: parts, repeated or late or early ones, snapshots, and what a look at the history says.
FRAME = st.one_of(
    st.integers(1, len(PIECES)).map(part),
    st.integers(0, len(PIECES)).map(snapshot),
    st.integers(0, len(PIECES)).map(folded),
)


@given(st.lists(FRAME, max_size=16), st.booleans())
def test_a_reader_sees_beginnings_of_the_text_and_then_all_of_it(frames: list[dict[str, Any]], follow: bool) -> None:
    growth = Growth("arq_a1", "chat:42")
    feed = growth.feed() if follow else None
    seen = 0
    for frame in frames:
        growth.folded(frame) if "seq" in frame else growth.append(frame)
        assert growth.text == "".join(PIECES[: growth.have])
        assert growth.have >= seen
        seen = growth.have
        if feed is not None:
            assert "".join(feed) == growth.text
    growth.end(END)
    assert (growth.text, growth.state, growth.have) == (TEXT, "complete", len(PIECES))
    assert (growth.end_payload, growth.untaken, growth.end_seq) == ({"usage": 1}, ("arq_s1",), 8)
    if feed is not None:
        assert "".join(feed) == TEXT


@given(st.permutations(range(1, len(PIECES) + 1)))
def test_parts_in_any_order_make_the_text(order: list[int]) -> None:
    growth = Growth("arq_a1", "chat:42")
    for number in order:
        growth.append(part(number))
    assert (growth.text, growth.behind) == (TEXT, False)


def test_parts_that_came_before_the_snapshot_are_not_lost() -> None:
    growing = Growing()
    for number in (6, 7):  # The subscription does not know the beginning.
        growing.append(part(number), "chat:42")
    growth = growing.get("arq_a1")
    assert growth is not None
    assert (growth.text, growth.behind) == ("", True)
    growing.append({**snapshot(5), "of_seq": 7}, "chat:42")
    assert (growth.text, growth.behind, growth.seq) == ("".join(PIECES[:7]), False, 7)
    growing.ended(END, "chat:42")
    assert growth.text == TEXT
    assert len(growing) == 0


def test_a_new_owner_that_starts_anew_is_told_to_who_follows() -> None:
    growth = Growth("arq_a1", "chat:42")
    growth.append(part(1))
    feed = growth.feed()
    growth.append(snapshot(0, attempt=2, text=""))
    assert (growth.text, growth.have, list(feed)) == ("", 0, [PIECES[0], RESET])
    growth.append(snapshot(1))  # A late one of the first attempt.
    assert growth.text == ""
    growth.append({**part(1), "delta": "other"})
    assert growth.text == "other"
    kept = growth.feed()
    growth.append(snapshot(1, attempt=3, text="other"))
    growth.append({**part(2), "delta": "!"})
    assert list(kept) == ["other", "!"]


def test_parts_are_objects_in_the_mode_parts() -> None:
    growth = Growth("arq_a1", "chat:42")
    feed = growth.feed()
    growth.append({"of": "arq_a1", "n": 1, "part": {"a": 1}})
    growth.append(
        {"of": "arq_a1", "upto": 2, "snapshot": True, "mode": "parts", "parts": [{"a": 1}, {"b": 2}], "attempt": 1}
    )
    growth.end(
        {"of": "arq_a1", "stream": {"mode": "parts", "state": "stopped", "parts": 3}, "parts": [{"a": 1}, {"b": 2}, {}]}
    )
    assert growth.parts == list(feed) == [{"a": 1}, {"b": 2}, {}]
    assert (growth.state, growth.text, growth.mode) == ("stopped", "", "parts")


def test_a_folded_message_of_the_history_is_one_message() -> None:
    message = as_message({**folded(3, "aborted"), "room": "chat", "channel": "42", "end_payload": {"why": "x"}})
    assert (message.id, message.text, message.state, message.seq) == ("arq_a1", "".join(PIECES[:3]), "aborted", 7)
    end = as_message({**END, "room": "chat", "channel": "42", "id": "arq_a1_end"})
    assert (end.id, end.type, end.text, end.state, end.payload) == ("arq_a1", "event", TEXT, "complete", {})
    plain = as_message({"id": "arq_1", "type": "event", "seq": 1, "message": "hello", "room": "chat", "channel": "42"})
    assert (plain.text, plain.state, plain.parts) == ("hello", None, [])


async def test_every_message_can_be_followed() -> None:
    plain = as_message({"id": "arq_1", "type": "event", "seq": 1, "message": "hello", "room": "chat", "channel": "42"})
    assert [delta async for delta in plain.deltas()] == ["hello"]
    assert await plain.ended() is plain
    done = as_message(folded(3, "complete"))
    assert [delta async for delta in done.deltas()] == ["".join(PIECES[:3])]
    assert await done.ended() is done
    page = as_message(folded(3))
    assert [delta async for delta in page.deltas()] == ["".join(PIECES[:3])]
    with pytest.raises(RuntimeError, match="Subscribe"):
        await page.ended()
