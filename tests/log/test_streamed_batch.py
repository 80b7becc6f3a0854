"""Streams in the log's transaction: parts, ends, steers, and everything that is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from django.db import connection

from bus.log import StreamState, streamed
from bus.models import Channel, StreamPart, StreamSteer
from tests.log.streams import bench, effect_of, frames, kept, message, opening, part, refusal, steer, write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def channel() -> Channel:
    return bench()


class Recording:
    """A cursor of the database that keeps what it executes."""

    def __init__(self, cursor: Any, made: list[str]) -> None:
        self._cursor, self._made = cursor, made

    def execute(self, statement: str, *arguments: Any) -> Any:
        if not statement.startswith(("BEGIN", "SAVEPOINT", "RELEASE")):
            self._made.append(statement)
        return self._cursor.execute(statement, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Returns the statements since the last call. The log does without Django's cursor, which would count them."""
    made: list[str] = []
    wrapper: Any = connection
    if connection.vendor == "sqlite":
        wrapper.ensure_connection()
        wrapper.connection.set_trace_callback(made.append)
    else:
        create = wrapper.create_cursor
        monkeypatch.setattr(connection, "create_cursor", lambda name=None: Recording(create(name), made))

    def taken() -> list[str]:
        now = [text for text in made if text.split()[0] not in ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "--")]
        made.clear()
        return now

    yield taken
    if connection.vendor == "sqlite":
        wrapper.connection.set_trace_callback(None)


def stream(of: str = "arq_a1") -> StreamState:
    """A stream as the database has it."""
    state = streamed.state_of(of)
    assert state is not None
    return state


def test_an_answer_grows_and_its_end_is_one_message_with_the_whole_text(channel: Channel) -> None:
    (opened,) = write(opening(channel.id))
    assert (opened.seq, effect_of(opened).stream) == (1, stream())
    for n, text in enumerate(["Hel", 'lo "you"\n', "…"], 1):
        (appended,) = write(part(channel.id, n, text))
        assert (appended.seq, appended.error, effect_of(appended).applied) == (None, None, True)
        assert effect_of(appended).stream.have == n
    (ended,) = write(part(channel.id, 4, "!", end="complete", payload=b'{"usage":{"out":4}}'))
    assert (ended.seq, effect_of(ended).applied) == (2, True)
    _, end = frames(channel)
    assert end["message"] == 'Hello "you"\n…!'
    assert end["stream"] == {"mode": "text", "state": "complete", "parts": 4}
    assert (end["of"], end["of_seq"], end["payload"], end["untaken"]) == ("arq_a1", 1, {"usage": {"out": 4}}, [])
    assert (stream().state, stream().end_seq, stream().have) == ("complete", 2, 4)
    assert effect_of(ended).stream == stream()
    assert not StreamPart.objects.exists()


def test_a_stream_of_parts_ends_with_their_list(channel: Channel) -> None:
    write(opening(channel.id, mode="parts"))
    write(part(channel.id, 1, {"type": "a"}), part(channel.id, 2, {"type": "b", "x": [1]}))
    write(part(channel.id, 3, {"type": "c"}))
    write(part(channel.id, 3, end="aborted"))
    end = frames(channel)[-1]
    assert end["parts"] == [{"type": "a"}, {"type": "b", "x": [1]}, {"type": "c"}]
    assert end["stream"] == {"mode": "parts", "state": "aborted", "parts": 3}
    assert "message" not in end


def test_opening_parts_and_end_may_come_in_one_group(channel: Channel) -> None:
    """A client sends its first parts without a wait for the ack of the opening."""
    done = write(
        opening(channel.id), part(channel.id, 1, "a"), message(channel.id, "arq_m"), part(channel.id, 2, "b"),
        part(channel.id, 2, end="complete"), opening(channel.id, "arq_b1"), part(channel.id, 1, "c", of="arq_b1"),
    )  # fmt: skip
    assert [entry.error for entry in done] == [None] * 7
    assert [entry.seq for entry in done] == [1, None, 2, None, 3, 4, None]
    assert frames(channel)[2]["message"] == "ab"
    assert {effect_of(entry).stream.id for entry in done if entry.effect} == {stream().id, stream("arq_b1").id}
    assert (kept(), kept("arq_b1")) == ([], [(1, 1, "c")])


def test_the_parts_of_one_group_share_a_row_and_an_empty_one_needs_none(channel: Channel) -> None:
    write(opening(channel.id))
    write(part(channel.id, 1, ""), part(channel.id, 2, "a"), part(channel.id, 3, "b"), part(channel.id, 4, ""))
    write(part(channel.id, 5, ""))
    write(part(channel.id, 6, "c"))
    assert kept() == [(2, 4, "ab"), (6, 6, "c")]
    assert stream().have == 6


@pytest.mark.parametrize("mode", ["text", "parts"])
def test_a_long_stream_has_few_rows(channel: Channel, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Every so often the newest rows become one. Each byte is written twice, however long the stream is."""
    monkeypatch.setattr("bus.log.streamed_batch.MERGED", 8)
    write(opening(channel.id, mode=mode))
    contents: list[Any] = [f"{n} " if mode == "text" else {"n": n} for n in range(1, 101)]
    for n, content in enumerate(contents, 1):
        write(part(channel.id, n, content))
        assert len(kept()) <= n // 8 + 8
    borders = [(first, last) for first, last, _ in kept()]
    assert borders[:2] == [(1, 8), (9, 16)]
    assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(borders))
    assert len(borders) == 100 // 8 + 100 % 8
    write(part(channel.id, 100, end="complete"))
    end = frames(channel)[-1]
    assert (end["message"] if mode == "text" else end["parts"]) == ("".join(contents) if mode == "text" else contents)


def test_a_repeated_part_counts_as_done_and_a_gap_is_refused(channel: Channel) -> None:
    write(opening(channel.id), part(channel.id, 1, "a"), part(channel.id, 2, "b"))
    again, gap, touch = write(part(channel.id, 1, "x"), part(channel.id, 4, "d"), part(channel.id, 2))
    assert (again.duplicate, again.error, effect_of(again).applied) == (True, None, False)
    assert (touch.duplicate, touch.error) == (False, None)
    assert gap.error is not None
    assert (refusal(gap), gap.error.number) == ("STREAM_GAP", 409)
    assert gap.error.details[0]["of"] == "arq_a1"
    assert gap.error.details[0]["have"] == 2
    assert [refusal(entry) for entry in write(part(channel.id, 1, end="complete"), part(channel.id, 9, end="complete"))] == [
        "STREAM_GAP", "STREAM_GAP",
    ]  # fmt: skip
    assert (stream().state, kept()) == ("open", [(1, 2, "ab")])


def test_a_repeated_end_answers_as_the_first_and_new_appends_are_refused(channel: Channel) -> None:
    write(opening(channel.id), part(channel.id, 1, "a"), part(channel.id, 2, "b", end="complete"))
    again, late, other, old = write(
        part(channel.id, 2, "b", end="complete"), part(channel.id, 3, "c"), part(channel.id, 2, end="aborted"),
        part(channel.id, 2, "b"),
    )  # fmt: skip
    assert (again.duplicate, again.seq, effect_of(again).stream.state) == (True, 2, "complete")
    assert late.error is not None
    assert late.error.details == [{"of": "arq_a1", "have": 2, "state": "complete"}]
    assert (refusal(late), refusal(other), old.duplicate) == ("STREAM_ENDED", "STREAM_ENDED", True)
    assert len(frames(channel)) == 2


def test_a_repeated_end_with_its_own_id_is_recognised_by_its_key(channel: Channel) -> None:
    write(opening(channel.id, key="ada/a1"), part(channel.id, 1, "a", end="complete", key="ada/e"))
    opened, ended = write(opening(channel.id, key="ada/a1"), part(channel.id, 1, "a", end="complete", key="ada/e"))
    assert (opened.duplicate, opened.seq, ended.duplicate, ended.seq) == (True, 1, True, 2)
    assert effect_of(opened).stream == effect_of(ended).stream == stream()


@pytest.mark.parametrize(
    "stranger", [{"owner": "eve"}, {"principal": "user:7"}, {"owner": "eve", "end": "complete"}], ids=str
)
def test_only_the_owner_appends(channel: Channel, stranger: dict[str, str]) -> None:
    write(opening(channel.id), part(channel.id, 1, "a"))
    (refused,) = write(part(channel.id, 2, "b", **stranger))  # type: ignore[arg-type]
    assert refusal(refused) == "STREAM_LOST"
    assert kept() == [(1, 1, "a")]


def test_an_unknown_stream_and_one_of_another_channel_are_not_found(channel: Channel) -> None:
    other = Channel.objects.create(room=channel.room, name="other")
    write(opening(channel.id))
    done = write(
        part(channel.id, 1, "a", of="arq_no"), part(other.id, 1, "a"), steer(other.id, "arq_s"),
        steer(channel.id, "arq_s", of="arq_no"), part(channel.id, 0, of="arq_no", end="complete"),
    )  # fmt: skip
    assert [refusal(entry) for entry in done] == ["STREAM_NOT_FOUND"] * 5
    assert len(frames(channel)) == 1


def test_a_stream_of_a_channel_that_was_deleted_is_not_found(channel: Channel) -> None:
    write(opening(channel.id), part(channel.id, 1, "a"))
    channel.delete()
    assert [refusal(entry) for entry in write(part(channel.id, 2, "b"), part(channel.id, 1, end="complete"))] == [
        "STREAM_NOT_FOUND", "STREAM_NOT_FOUND",
    ]  # fmt: skip
    assert not StreamPart.objects.exists()


def test_no_two_streams_share_an_id(channel: Channel) -> None:
    write(opening(channel.id, key="ada/a1"))
    other, same = write(opening(channel.id, owner="eve", key="eve/a1"), opening(channel.id, key="ada/a1"))
    assert other.error is not None
    assert (refusal(other), other.error.details[0]["field"]) == ("VALIDATION_ERROR", "id")
    assert (same.duplicate, same.seq) == (True, 1)
    assert len(frames(channel)) == 1


def test_a_part_of_the_wrong_mode_is_refused(channel: Channel) -> None:
    write(opening(channel.id), opening(channel.id, "arq_p", mode="parts"))
    text, parts = write(part(channel.id, 1, {"a": 1}), part(channel.id, 1, "a", of="arq_p"))
    assert text.error is not None
    assert parts.error is not None
    assert (text.error.details[0]["field"], parts.error.details[0]["field"]) == ("part", "delta")


def test_a_stream_stays_within_the_size_of_a_frame_and_may_still_end(channel: Channel) -> None:
    write(opening(channel.id))
    fits, too_long = write(
        part(channel.id, 1, "x" * 400, max_bytes=1000), part(channel.id, 2, "y" * 400, max_bytes=1000)
    )
    assert (fits.error, refusal(too_long)) == (None, "FRAME_TOO_LARGE")
    assert "1000" in str(too_long.error)
    payload = b'{"x":"%b"}' % (b"z" * 200)
    assert [
        refusal(entry) for entry in write(part(channel.id, 1, end="complete", payload=payload, max_bytes=1000))
    ] == ["FRAME_TOO_LARGE"]
    (ended,) = write(part(channel.id, 2, "!", end="complete", max_bytes=1000))
    assert (ended.error, frames(channel)[-1]["message"]) == (None, "x" * 400 + "!")


def test_a_client_has_so_many_open_streams_and_an_end_makes_room(channel: Channel) -> None:
    done = write(*(opening(channel.id, f"arq_{n}", most=2) for n in range(3)))
    assert [refusal(entry) for entry in done] == [None, None, "LIMIT_REACHED"]
    assert done[2].error is not None
    assert done[2].error.details == [{"limit": "streams"}]
    # Another client has its own. The ended one counts no longer, in the same group as well.
    done = write(
        opening(channel.id, "arq_e", owner="eve", most=2),
        opening(channel.id, "arq_3", most=2),
        part(channel.id, 0, of="arq_0", end="complete"),
        opening(channel.id, "arq_4", most=2),
    )
    assert [refusal(entry) for entry in done] == [None, "LIMIT_REACHED", None, None]


def test_a_steer_is_taken_or_stands_in_the_end(channel: Channel) -> None:
    write(opening(channel.id))
    one, two, three = write(*(steer(channel.id, f"arq_s{n}") for n in (1, 2, 3)))
    assert [effect_of(entry).steered for entry in (one, two, three)] == [True] * 3
    (took,) = write(part(channel.id, 1, "a", took=("arq_s2", "arq_unknown"), wants_steers=True))
    assert [msgspec.json.decode(frame)["id"] for frame in effect_of(took).steers] == ["arq_s1", "arq_s3"]
    assert effect_of(took).stream.steers == stream().steers == 2
    *_, ended, late = write(
        steer(channel.id, "arq_s4"), part(channel.id, 1, took=("arq_s1",), end="complete"), steer(channel.id, "arq_s5")
    )
    assert effect_of(ended).untaken == frames(channel)[-2]["untaken"] == ["arq_s3", "arq_s4"]
    assert (effect_of(late).steered, late.seq) == (False, 7)
    assert not StreamSteer.objects.exists()
    (again,) = write(part(channel.id, 1, end="complete"))
    assert (again.duplicate, effect_of(again).untaken) == (True, ["arq_s3", "arq_s4"])


def test_a_repeated_steer_hears_the_same_as_the_first_time(channel: Channel) -> None:
    write(opening(channel.id), steer(channel.id, "arq_s1", key="eve/s1"), part(channel.id, 0, end="complete"))
    write(steer(channel.id, "arq_s2", key="eve/s2"))
    early, late = write(steer(channel.id, "arq_s1", key="eve/s1"), steer(channel.id, "arq_s2", key="eve/s2"))
    assert (early.duplicate, effect_of(early).steered) == (True, True)
    assert (late.duplicate, effect_of(late).steered) == (True, False)


def test_who_repeats_a_plain_message_learns_nothing_of_a_stream(channel: Channel) -> None:
    """Eve's message has the id of Ada's hidden stream, or the repeat names that stream."""
    own = Channel.objects.create(room=channel.room, name="own")
    write(opening(channel.id), part(channel.id, 1, "secret"))
    write(message(own.id, "arq_a1", sender="eve", key="eve/a1"), message(channel.id, "arq_a1", key="eve/same"))
    repeats = write(
        opening(own.id, owner="eve", key="eve/a1"), steer(own.id, "arq_a1", key="eve/a1"),
        part(own.id, 1, owner="eve", end="complete", key="eve/a1"), opening(channel.id, owner="eve", key="eve/same"),
        opening(channel.id, key="eve/same"), part(channel.id, 1, owner="eve", end="complete", key="eve/same"),
    )  # fmt: skip
    assert [(entry.duplicate, entry.error, effect_of(entry).stream) for entry in repeats] == [(True, None, None)] * 6
    assert not effect_of(repeats[1]).steered


def test_a_steer_that_came_and_was_taken_in_one_group_leaves_nothing(channel: Channel) -> None:
    write(opening(channel.id), steer(channel.id, "arq_s1"), part(channel.id, 1, "a", took=("arq_s1",)))
    assert (StreamSteer.objects.count(), stream().steers) == (0, 0)


def test_the_answers_of_a_batch_show_so_much_of_the_open_steers(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(opening(channel.id), opening(channel.id, "arq_a2"))
    write(*(steer(channel.id, f"arq_s{n}") for n in range(3)), steer(channel.id, "arq_t", of="arq_a2"))

    def shown(n: int) -> list[list[str]]:
        done = write(
            part(channel.id, n, "a", wants_steers=True), part(channel.id, n, "a", of="arq_a2", wants_steers=True)
        )
        return [[msgspec.json.decode(frame)["id"] for frame in effect_of(entry).steers] for entry in done]

    assert shown(1) == [["arq_s0", "arq_s1", "arq_s2"], ["arq_t"]]
    size = len(msgspec.json.encode(frames(channel)[2]))
    monkeypatch.setattr("bus.log.streamed_batch.SHOWN_LENGTH", 5 * size // 2)
    assert shown(2) == [["arq_s0", "arq_s1"], []]
    monkeypatch.setattr("bus.log.streamed_batch.SHOWN_LENGTH", 1)
    assert shown(3) == [["arq_s0"], []]


def test_too_many_steers_are_refused(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.log.streamed_batch.MOST_STEERS", 2)
    write(opening(channel.id))
    done = write(*(steer(channel.id, f"arq_s{n}") for n in range(3)))
    assert [refusal(entry) for entry in done] == [None, None, "LIMIT_REACHED"]
    assert len(frames(channel)) == 3


def test_a_group_of_parts_of_many_streams_costs_three_statements(
    channel: Channel, statements: Callable[[], list[str]]
) -> None:
    write(*(opening(channel.id, f"arq_{n}") for n in range(64)))
    statements()
    write(*(part(channel.id, n, "x", of=f"arq_{i}") for n in (1, 2, 3) for i in range(64)))
    made = statements()
    assert [statement.split()[0].replace("WITH", "UPDATE") for statement in made] == ["SELECT", "UPDATE", "INSERT"]
    assert not any("bus_channel" in statement for statement in made)
    assert StreamPart.objects.count() == 64


def test_an_end_that_is_refused_or_repeated_reads_no_content_again(
    channel: Channel, statements: Callable[[], list[str]]
) -> None:
    write(opening(channel.id), part(channel.id, 1, "long"))
    statements()
    write(part(channel.id, 0, end="complete"), part(channel.id, 7, end="complete"))
    assert not any("bus_streampart" in statement for statement in statements())
    write(part(channel.id, 2, "er"), part(channel.id, 3, "!", end="complete"))
    assert frames(channel)[-1]["message"] == "longer!"
    statements()
    again = write(*(part(channel.id, 3, "!", end="complete") for _ in range(5)))
    assert [(entry.duplicate, entry.seq) for entry in again] == [(True, 2)] * 5
    assert sum('FROM "bus_message"' in statement for statement in statements()) == 1


def test_messages_without_streams_cost_what_they_did(channel: Channel, statements: Callable[[], list[str]]) -> None:
    statements()
    write(*(message(channel.id, f"arq_{n}") for n in range(64)))
    made = statements()
    assert [statement.split()[0] for statement in made] == ["SELECT", "UPDATE", "INSERT"], made
    assert not any("bus_stream" in statement for statement in made)
