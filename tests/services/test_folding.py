"""Folded history: a streamed message is one message, and a page stays within its bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bus import log
from bus.auth.permissions import SYSTEM
from bus.models import Channel
from bus.services import history
from tests.log.streams import AT, bench, effect_of, message, opening, part, write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def channel() -> Channel:
    return bench()


def page(**options: Any) -> tuple[list[dict[str, Any]], history.Page]:
    """A folded page of the channel: its messages as values, and itself."""
    found = history.page(SYSTEM, history.Question(AT, fold=True, descending=False, **options))
    return [msgspec.json.decode(one.frame) for one in found.messages], found


def streaming(channel: Channel, of: str, *texts: str, end: str | None = None) -> None:
    """A stream with these parts, as the bus keeps its opening."""
    begun = opening(channel.id, of)
    begun.tail = b',"stream":{"mode":"text"},"payload":{"role":"assistant"}}'
    (begun,) = write(begun)
    assert begun.error is None
    write(*(part(channel.id, n, text, of=of) for n, text in enumerate(texts, 1)))
    if end is not None:
        (ended,) = write(part(channel.id, len(texts), of=of, end=end, payload=b'{"usage":5}'))
        assert effect_of(ended).stream.end_seq == ended.seq


def test_an_answer_is_one_message_with_its_text_state_and_end(channel: Channel) -> None:
    streaming(channel, "arq_a1", "Hel", "lo", end="complete")
    write(message(channel.id, "arq_m"))
    streaming(channel, "arq_a2", "so ", "far")
    (answer, other, growing), whole = page()
    assert whole.cursor is None
    assert (answer["id"], answer["seq"], answer["message"]) == ("arq_a1", 1, "Hello")
    assert answer["stream"] == {"mode": "text", "state": "complete", "parts": 2, "end_seq": 2}
    assert (answer["payload"], answer["end_payload"]) == ({"role": "assistant"}, {"usage": 5})
    assert other["id"] == "arq_m"
    assert (growing["message"], growing["stream"]) == ("so far", {"mode": "text", "state": "open", "parts": 2})
    assert "end_payload" not in growing


def test_a_stream_of_parts_has_their_list(channel: Channel) -> None:
    begun = opening(channel.id, mode="parts")
    begun.tail = b',"stream":{"mode":"parts"},"payload":{}}'
    write(begun, part(channel.id, 1, {"a": 1}), part(channel.id, 2, {"b": 2}))
    assert page()[0][0]["parts"] == [{"a": 1}, {"b": 2}]
    write(part(channel.id, 2, end="aborted"))
    (answer,), _ = page()
    assert (answer["parts"], answer["stream"]["state"]) == ([{"a": 1}, {"b": 2}], "aborted")


def test_an_end_whose_opening_was_pruned_stays(channel: Channel) -> None:
    streaming(channel, "arq_a1", "whole", end="complete")
    log.drop(channel.id, 1, 100)
    (end,), _ = page()
    assert (end["type"], end["message"]) == ("stream_end", "whole")


def test_a_page_counts_the_bytes_of_the_answers_and_goes_on_behind_them(channel: Channel) -> None:
    """Twenty openings are small, and their answers are not."""
    for n in range(20):
        write(opening_with_stream(channel, f"arq_{n}"))
    for n in range(20):
        write(part(channel.id, 1, "x" * 10_000, of=f"arq_{n}"), part(channel.id, 1, of=f"arq_{n}", end="complete"))
    seen: list[str] = []
    after: str | None = None
    for _ in range(20):
        answers, found = page(limit=50, most_bytes=45_000, cursor=after)
        assert sum(len(one.frame) for one in found.messages) < 60_000
        seen += [answer["id"] for answer in answers]
        assert all(answer["message"] == "x" * 10_000 for answer in answers)
        after = found.cursor
        if after is None:
            break
    assert seen == [f"arq_{n}" for n in range(20)]


def opening_with_stream(channel: Channel, of: str) -> log.Entry:
    begun = opening(channel.id, of)
    begun.tail = b',"stream":{"mode":"text"},"payload":{}}'
    return begun


def test_a_search_finds_the_text_of_an_answer(channel: Channel) -> None:
    """The text stands in the end only, so its stream is shown for it, once."""
    streaming(channel, "arq_a1", "the needle", end="complete")
    streaming(channel, "arq_a2", "hay", end="complete")
    (answer,), _ = page(text="needle")
    assert (answer["id"], answer["message"]) == ("arq_a1", "the needle")


def test_without_fold_both_messages_are_there(channel: Channel) -> None:
    streaming(channel, "arq_a1", "Hello", end="complete")
    found = history.page(SYSTEM, history.Question(AT, descending=False))
    assert [msgspec.json.decode(one.frame)["type"] for one in found.messages] == ["event", "stream_end"]
