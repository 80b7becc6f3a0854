"""Streamed messages in Django code: the functions, and the writer that uses them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from django.db import transaction
from pytest_django.fixtures import Settings

from bus.auth.permissions import SYSTEM, Actor
from bus.conf.settings import config
from bus.models import Message, Stream, StreamPart
from bus.protocol.errors import BusError
from bus.protocol.names import Address
from bus.services import (
    aappend_to_stream,
    adopt_stream,
    aend_stream,
    aopen_stream,
    append_to_stream,
    astop_stream,
    end_stream,
    growing,
    history,
    open_stream,
    publish,
    stop_stream,
    stream,
)
from bus.shapes import StreamPlace

pytestmark = pytest.mark.django_db(transaction=True)

ME = Actor(principal="user:7", name="me", client_id="agent")


def place(published: Any) -> StreamPlace:
    """What a result says of the stream."""
    assert isinstance(published.stream, StreamPlace)
    return published.stream


def kept(address: str) -> list[dict[str, Any]]:
    """The frames of a channel."""
    rows = Message.objects.filter(channel__room__name=address.partition(":")[0]).order_by("seq")
    return [json.loads(frame) for frame in rows.values_list("frame", flat=True)]


def test_a_text_grows_by_calls(fresh_room: str) -> None:
    opened = open_stream(f"{fresh_room}:a", {"role": "assistant"}, id="x-1" + fresh_room, actor=ME)
    of = place(opened).of
    assert (opened.seq, of, place(opened).have) == (1, f"arq_x-1{fresh_room}", 0)
    assert place(append_to_stream(of, 1, "Hel", actor=ME)).have == 1
    again = append_to_stream(of, 1, "other", actor=ME)
    assert (again.duplicate, again.seq, place(again).have) == (True, None, 1)
    ended = end_stream(of, 2, delta="lo\n", payload={"usage": 2}, id="my-end", actor=ME)
    assert (ended.seq, ended.id, place(ended).state, place(ended).have) == (2, "arq_my-end", "complete", 2)
    assert end_stream(of, 2, delta="lo\n", actor=ME).duplicate
    opening, end = kept(fresh_room)
    assert (opening["stream"], opening["from"]) == ({"mode": "text"}, "agent")
    assert (end["message"], end["payload"], end["stream"]["parts"]) == ("Hello\n", {"usage": 2}, 2)
    assert not StreamPart.objects.filter(stream__uid=of).exists()


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda of: append_to_stream(of, 3, "x", actor=ME), "STREAM_GAP"),
        (lambda of: append_to_stream(of, 1, part={}, actor=ME), "VALIDATION_ERROR"),
        (lambda of: append_to_stream(of, 1, actor=ME), "VALIDATION_ERROR"),
        (lambda of: append_to_stream(of, 1, "\ud800", actor=ME), "VALIDATION_ERROR"),
        (lambda of: append_to_stream(of, -1, "x", actor=ME), "VALIDATION_ERROR"),
        (lambda of: append_to_stream("", 1, "x", actor=ME), "VALIDATION_ERROR"),
        (lambda of: end_stream(of, 0, "open", actor=ME), "VALIDATION_ERROR"),  # type: ignore[arg-type]
        (lambda of: end_stream(of, 0, payload={"x": object()}, actor=ME), "VALIDATION_ERROR"),
        (lambda of: append_to_stream(of, 1, "x"), "STREAM_LOST"),
        (lambda of: append_to_stream("arq_missing", 1, "x", actor=ME), "STREAM_NOT_FOUND"),
        (lambda of: adopt_stream(of, actor=msgspec.structs.replace(ME, principal="user:8")), "FORBIDDEN"),
        (lambda of: open_stream("a b:c"), "INVALID_NAME"),
        (lambda of: open_stream("pm:nobody"), "TARGET_NOT_FOUND"),
        (lambda of: open_stream("room:a", mode="video"), "VALIDATION_ERROR"),  # type: ignore[arg-type]
        (lambda of: publish("room:a", message="x", steer=of, actor=ME), "STREAM_NOT_FOUND"),
        (lambda of: publish("room:a", message="x", steer="\ud800", actor=ME), "VALIDATION_ERROR"),
    ],
)
def test_refusals_are_errors(fresh_room: str, call: Any, code: str) -> None:
    of = place(open_stream(f"{fresh_room}:a", actor=ME)).of
    with pytest.raises(BusError) as caught:
        call(of)
    assert caught.value.code == code
    assert place(append_to_stream(of, 1, "goes on", actor=ME)).have == 1


def test_a_part_of_a_transaction_that_is_rolled_back_never_was(fresh_room: str) -> None:
    of = place(open_stream(f"{fresh_room}:a", actor=ME)).of
    with transaction.atomic():
        append_to_stream(of, 1, "never", actor=ME)
        transaction.set_rollback(True)
    with transaction.atomic():
        append_to_stream(of, 1, "kept", actor=ME)
        end_stream(of, 1, actor=ME)
    assert kept(fresh_room)[1]["message"] == "kept"


def test_a_project_has_any_number_of_open_streams_and_its_clients_have_not(fresh_room: str, settings: Settings) -> None:
    settings.ARQONBUS = {"streams": 1}
    for _ in range(3):
        open_stream(f"{fresh_room}:a")
    open_stream(f"{fresh_room}:a", actor=ME)
    with pytest.raises(BusError, match="LIMIT_REACHED"):
        open_stream(f"{fresh_room}:a", actor=ME)


def test_stop_and_adopt(fresh_room: str) -> None:
    of = place(open_stream(f"{fresh_room}:a", actor=ME)).of
    append_to_stream(of, 1, "one", actor=ME)
    stopped = stop_stream(of)
    assert (stopped.state, stopped.have, stopped.stopping) == ("open", 1, True)
    assert place(append_to_stream(of, 2, "two", actor=ME)).stopping
    adopted = adopt_stream(of, keep=False, actor=ME)
    assert (adopted.have, adopted.attempt, adopted.stopping, adopted.mode) == (0, 2, True, "text")
    with pytest.raises(BusError, match="STREAM_LOST"):
        append_to_stream(of, 1, "no token", actor=ME)
    end_stream(of, 1, delta="again", token=adopted.token, actor=ME)
    assert kept(fresh_room)[1]["stream"] == {"mode": "text", "state": "stopped", "parts": 1}
    assert stop_stream(of).state == "stopped"


# --- the writer -----------------------------------------------------------------------------------------------------------


def test_the_writer_ends_what_it_opened(fresh_room: str) -> None:
    with stream(f"{fresh_room}:a", {"role": "assistant"}, actor=ME) as out:
        for word in ("Once ", "upon ", "a ", "time"):
            out.write(word)
        out.end_payload = {"usage": 4}
    opening, end = kept(fresh_room)
    assert (opening["id"], opening["payload"]) == (out.of, {"role": "assistant"})
    assert (end["message"], end["payload"], end["stream"]["state"]) == ("Once upon a time", {"usage": 4}, "complete")
    # The first text goes at once, and those that follow within a moment go together.
    assert 1 < end["stream"]["parts"] <= 4


def test_the_texts_of_a_moment_are_one_part(fresh_room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "GATHER", 1e9)
    with stream(f"{fresh_room}:a") as out:
        for _ in range(5):
            out.write("x")
        assert out.have == 0
        out.flush()
        out.flush()
        assert out.have == 1
        out.write("y")
    assert kept(fresh_room)[1]["stream"]["parts"] == 2


def test_an_exception_ends_it_as_aborted_with_the_text_so_far(fresh_room: str) -> None:
    def answer() -> None:
        with stream(f"{fresh_room}:a") as out:
            out.write("half an ans")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answer()
    assert (kept(fresh_room)[1]["message"], kept(fresh_room)[1]["stream"]["state"]) == ("half an ans", "aborted")


def test_a_lost_stream_raises_its_own_error(fresh_room: str) -> None:
    out = stream(f"{fresh_room}:a", actor=ME)

    def answer() -> None:
        with out:
            out.write("mine")
            adopt_stream(out.of, actor=ME)
            out.write("lost")
            out.flush()

    with pytest.raises(BusError, match="STREAM_LOST"):
        answer()
    assert Stream.objects.get(uid=out.of).state == "open"


def test_the_writer_learns_of_a_stop_and_of_steers(fresh_room: str) -> None:
    with stream(f"{fresh_room}:a", mode="parts") as out:
        out.part({"n": 1})
        assert (out.stop_requested, out.steers()) == (False, [])
        first = publish(f"{fresh_room}:a", message="shorter", steer=out.of)
        assert first.steered is True
        out.part({"n": 2})
        assert [message["message"] for message in out.steers()] == ["shorter"]
        out.part({"n": 3})
        left = publish(f"{fresh_room}:a", message="in French", steer=out.of)
        stop_stream(out.of)
        out.part({"n": 4})
        assert out.stop_requested
    end = kept(fresh_room)[-1]
    assert (end["parts"], end["stream"]["state"]) == ([{"n": n} for n in (1, 2, 3, 4)], "stopped")
    assert end["untaken"] == [left.id]
    late = publish(f"{fresh_room}:a", message="late", steer=out.of)
    assert late.steered is False


async def test_the_same_in_async_code(fresh_room: str) -> None:
    opened = await aopen_stream(f"{fresh_room}:a", actor=ME)
    of = place(opened).of
    await aappend_to_stream(of, 1, "Hel", actor=ME)
    await astop_stream(of)
    assert place(await aend_stream(of, 2, delta="lo", actor=ME)).state == "stopped"
    async with stream(f"{fresh_room}:b") as out:
        await out.awrite("Hel")
        await out.awrite("lo")
        await out.aflush()
    async with stream(f"{fresh_room}:b", mode="parts") as out:
        await out.apart({"n": 1})
    found = await Message.objects.filter(channel__room__name=fresh_room, type="stream_end").acount()
    assert found == 3


def test_a_writer_without_its_block_says_so(fresh_room: str) -> None:
    out = stream(f"{fresh_room}:a")
    with pytest.raises(RuntimeError, match="Use `with`"):
        out.write("x")
    with pytest.raises(RuntimeError, match="Use `with`"):
        out.part({})
    with pytest.raises(RuntimeError, match="Use `with`"):
        out.flush()


def test_the_writer_takes_texts_and_objects_only(fresh_room: str) -> None:
    with stream(f"{fresh_room}:a") as out:
        for wrong in (None, 5, b"x", {"n": 1}):
            with pytest.raises(TypeError, match="grows by strings"):
                out.write(wrong)  # type: ignore[arg-type]
        out.write("fine")
    with stream(f"{fresh_room}:a", mode="parts") as out, pytest.raises(TypeError, match="JSON object"):
        out.part("x")  # type: ignore[arg-type]
    assert kept(fresh_room)[1]["message"] == "fine"


@pytest.mark.parametrize("flushed", [True, False])
@pytest.mark.parametrize("broken", [True, False])
def test_a_text_over_the_limit_is_kept_as_far_as_it_fits(fresh_room: str, flushed: bool, broken: bool) -> None:
    limit = config().frame_bytes
    text = "\u00e4\n" * limit

    def answer() -> None:
        with stream(f"{fresh_room}:a") as out:
            out.write("1")
            out._waiting.append(text)
            if flushed:
                out.flush()
            if broken:
                raise KeyError

    with pytest.raises(
        KeyError if broken and not flushed else BusError, match=None if flushed or broken else str(limit)
    ):
        answer()
    end = kept(fresh_room)[1]
    assert end["stream"]["state"] == "aborted"
    assert ("1" + text).startswith(end["message"])
    assert limit - 1024 < len(json.dumps(end["message"], ensure_ascii=False).encode()) < limit


def test_a_payload_that_is_too_large_leaves_no_open_message(fresh_room: str) -> None:
    def answer() -> None:
        with stream(f"{fresh_room}:a") as out:
            out.write("kept")
            out.end_payload = {"x": "x" * config().frame_bytes}

    with pytest.raises(BusError):
        answer()
    end = kept(fresh_room)[1]
    assert (end["message"], end["stream"]["state"]) == ("kept", "aborted")


def test_a_stream_is_adopted_in_its_own_channel_only(fresh_room: str) -> None:
    of = place(open_stream(f"{fresh_room}:a", actor=ME)).of
    append_to_stream(of, 1, "one", actor=ME)
    for other in (f"{fresh_room}:b", fresh_room, Address(fresh_room, "*")):
        with pytest.raises(BusError, match="STREAM_NOT_FOUND"):
            adopt_stream(of, keep=False, address=other, actor=ME)
    with pytest.raises(BusError, match="INVALID_NAME"):
        adopt_stream(of, address="a b", actor=ME)
    assert place(append_to_stream(of, 2, "two", actor=ME)).attempt == 1
    assert adopt_stream(of, address=Address(fresh_room, "a"), actor=ME).have == 2
    assert adopt_stream(of, keep=False, address=f"{fresh_room}:a", actor=ME).have == 0


# --- folded history -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_room", [False, True])
@pytest.mark.parametrize("descending", [False, True])
def test_folded_pages_are_bounded_and_lose_nothing(fresh_room: str, descending: bool, whole_room: bool) -> None:
    """Three long answers, whose openings are short, between other messages: no page is larger than it may be."""
    wanted = []
    for number, channel in enumerate("abab" if whole_room else "aaaa"):
        opened = open_stream(f"{fresh_room}:{channel}", id=f"{number}-{fresh_room}")
        wanted.append((opened.id, f"{number}" * 4000))
        wanted.append((publish(f"{fresh_room}:{channel}", message="between").id, "between"))
        append_to_stream(place(opened).of, 1, f"{number}" * 4000)
    for number in range(3):
        end_stream(f"arq_{number}-{fresh_room}", 1)
    found: list[tuple[str, str]] = []
    cursor: str | None = None
    sizes = []
    while True:
        page = history.page(
            SYSTEM,
            history.Question(
                Address(fresh_room, "*" if whole_room else "a"),
                limit=100,
                descending=descending,
                after=None if descending else 0 if not whole_room else datetime(2020, 1, 1, tzinfo=UTC),
                cursor=cursor,
                most_bytes=6000,
                fold=True,
            ),
        )
        messages = [json.loads(row.frame) for row in page.messages]
        sizes.append(sum(len(row.frame) for row in page.messages))
        found += [(message["id"], message["message"]) for message in messages]
        cursor = page.cursor
        if cursor is None or (not descending and not messages):
            break
    assert max(sizes) <= 6000
    assert found == (wanted[::-1] if descending else wanted)
