"""Streamed messages as events of AG-UI and of Vercel's SDK: in pieces, twice or anew, readers have the content."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.api.dressing import FORMS, Dressing, Event, Position, Run, position_of
from bus.protocol import frames
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import Address

pytestmark = pytest.mark.pure

OF, PLACE = "arq_a1", Address("chat", "42")
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)


class Answer:
    """A stream as its owner makes it: the parts of its attempt, and the frames that tell of them."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.attempt = 1
        self.parts: list[Any] = []

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def _body(self, part: Any) -> bytes:
        raw = json.dumps(part).encode()  # a browser's escapes, where the client's own are UTF-8
        return raw[1:-1] if self.mode == "text" else raw

    def add(self, part: Any) -> bytes:
        self.parts.append(part)
        return self.part(len(self.parts))

    def part(self, n: int) -> bytes:
        return frames.part(PLACE, OF, n, self.mode, self._body(self.parts[n - 1]))

    def _all(self) -> bytes:
        return (b"" if self.mode == "text" else b",").join(map(self._body, self.parts))

    def snapshot(self) -> bytes:
        return frames.snapshot(PLACE, OF, len(self.parts), self.mode, self.attempt, self._all(), 7, "ada")

    def anew(self) -> bytes:
        self.attempt += 1
        self.parts = []
        return self.snapshot()

    def end(self, state: str = "complete", **payload: Any) -> bytes:
        content = b'"message":"%b"' if self.mode == "text" else b'"parts":[%b]'
        stream = {"mode": self.mode, "state": state, "parts": len(self.parts)}
        more = {"payload": payload} if payload else {}
        head = msgspec.json.encode({"type": "stream_end", "of": OF, "seq": 8, "stream": stream, **more})
        return head[:-1] + b"," + content % self._all() + b"}"


def data_of(event: Event) -> Any:
    return json.loads(event.data) if event.data != b"[DONE]" else None


class AgReader:
    """What a client of AG-UI makes of the events, as strict about their order as its own `verifyEvents`."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}
        self.open: set[str] = set()
        self.runs: list[str] = []

    def hear(self, events: Iterable[Event]) -> None:
        for event in map(data_of, events):
            kind = event["type"]
            if kind == "RUN_STARTED":
                assert not self.runs or self.runs[-1] not in ("running",)
                self.runs.append("running")
                continue
            assert self.runs[-1] == "running", kind
            if kind == "TEXT_MESSAGE_START":
                assert event["messageId"] not in self.open
                self.open.add(event["messageId"])
                self.messages.setdefault(event["messageId"], "")
            elif kind == "TEXT_MESSAGE_CONTENT":
                assert event["messageId"] in self.open
                self.messages[event["messageId"]] += event["delta"]
            elif kind == "TEXT_MESSAGE_END":
                self.open.remove(event["messageId"])
            elif kind == "MESSAGES_SNAPSHOT":
                self.messages = {row["id"]: row["content"] for row in event["messages"]}
            elif kind == "RUN_FINISHED":
                assert not self.open
                self.runs[-1] = event.get("outcome", {"type": "success"})["type"]
            else:
                assert kind == "RUN_ERROR"
                self.open.clear()
                self.runs[-1] = event.get("code", "")


class VercelReader:
    """What `processUIMessageStream` of Vercel's SDK makes of the chunks."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.state = ""

    def hear(self, events: Iterable[Event]) -> None:
        for chunk in map(data_of, events):
            assert not self.state.endswith("done")
            if chunk is None:
                self.state += " done"
                continue
            match chunk["type"]:
                case "start":
                    assert chunk["messageId"] == OF
                    self.parts = {}
                case "text-start":
                    self.parts[chunk["id"]] = ""
                case "text-delta":
                    self.parts[chunk["id"]] += chunk["delta"]
                case "reset-step":
                    self.parts = {}
                case "error" | "finish" as ending:
                    self.state = ending


READERS: dict[str, type[AgReader | VercelReader]] = {"agui": AgReader, "vercel": VercelReader}


def shown(reader: AgReader | VercelReader) -> str:
    return (reader.messages if isinstance(reader, AgReader) else reader.parts)[OF]


def made(form: str, mode: str = "text", last: str = "", run: Run | None = None) -> Dressing:
    return FORMS[form](OF, "chat:42", mode, last=position_of(last), run=run)


@given(
    form=st.sampled_from(["agui", "vercel"]),
    steps=st.lists(
        st.one_of(TEXTS, st.sampled_from(["twice", "snapshot", "skipped", "anew", "cut", "page"])), max_size=30
    ),
)
def test_any_split_of_a_text_gives_the_same_text(form: str, steps: list[str]) -> None:
    answer, reader, dressing = Answer("text"), READERS[form](), made(form)
    kept: list[Event] = []
    words = ("twice", "snapshot", "skipped", "anew", "cut", "page")

    def hear(frame: bytes) -> None:
        events = dressing.frame(frame)
        kept.extend(events)
        reader.hear(events)

    hear(answer.snapshot())
    for step in steps:
        match step:
            case "twice" if answer.parts:
                hear(answer.part(len(answer.parts)))
            case "snapshot":
                hear(answer.snapshot())
            case "skipped":
                answer.add("lost to a slow reader")
                hear(answer.snapshot())
            case "anew":
                hear(answer.anew())
            case "cut":
                # The same page comes back with the id of the last event that had one.
                place = next((event.id for event in reversed(kept) if event.id), "")
                dressing = made(form, last=place)
                if not place:
                    reader = READERS[form]()
                hear(answer.snapshot())
            case "page":
                # Another page, which knows nothing.
                dressing, reader, kept = made(form), READERS[form](), []
                hear(answer.snapshot())
            case _ if step not in words:
                hear(answer.add(step))
        assert shown(reader) == answer.text
    hear(answer.end())
    assert dressing.over
    assert shown(reader) == answer.text


@given(texts=st.lists(TEXTS, max_size=8), cuts=st.lists(st.integers(0, 7), max_size=4))
def test_parts_are_passed_on_byte_for_byte_and_each_once(texts: list[str], cuts: list[int]) -> None:
    for form in ("agui", "vercel"):
        answer, dressing = Answer("parts"), made(form, "parts")
        got: list[Event] = []
        for number, text in enumerate(texts):
            frame = answer.add({"type": "data-x", "data": text})
            if number in cuts:
                dressing = made(form, "parts", got[-1].id if got else "")
                frame = answer.snapshot()
            got += dressing.frame(frame)
            got += dressing.frame(answer.part(number + 1))
        assert [data_of(event) for event in got] == answer.parts
        # After the end, the list gives what is missing.
        late = made(form, "parts", got[len(got) // 2].id if got else "").frame(answer.end())
        assert [data_of(event) for event in late if event.id] == answer.parts[len(got) // 2 + 1 :]


@pytest.mark.parametrize(
    ("state", "agui", "vercel"),
    [
        ("complete", "success", "finish done"),
        ("stopped", "cancelled", "finish done"),
        ("aborted", "aborted", "error done"),
    ],
)
def test_the_state_of_the_end_is_told(state: str, agui: str, vercel: str) -> None:
    answer = Answer("text")
    answer.add("Hel")
    run, ai = AgReader(), VercelReader()
    run.hear(made("agui").frame(answer.end(state)))
    ai.hear(made("vercel").frame(answer.end(state)))
    assert (run.runs, shown(run)) == ([agui], "Hel")
    assert (ai.state, shown(ai)) == (vercel, "Hel")


def test_the_payload_of_the_end_is_the_runs_result_and_the_messages_metadata() -> None:
    events = [data_of(event) for event in made("agui").frame(Answer("text").end(usage={"out": 412}))]
    assert events[0] == {"type": "RUN_STARTED", "threadId": "chat:42", "runId": OF}
    assert events[-1]["result"] == {"usage": {"out": 412}}
    chunks = [data_of(event) for event in made("vercel").frame(Answer("text").end(usage={"out": 412}))]
    assert chunks[-2] == {"type": "finish", "messageMetadata": {"usage": {"out": 412}}}


def test_a_run_has_the_names_and_keeps_the_messages_of_its_request() -> None:
    body = b'{"threadId":"t1","runId":"r1","messages":[{"id":"u1","role":"user","content":"Hi"}],"state":{},"tools":[]}'
    answer, reader = Answer("text"), AgReader()
    answer.add("first try")
    dressing = made("agui", run=msgspec.json.decode(body, type=Run))
    events = dressing.frame(answer.snapshot())
    assert data_of(events[0]) == {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"}
    reader.hear(events)
    reader.hear(dressing.frame(answer.anew()))
    assert reader.messages == {"u1": "Hi", OF: ""}
    reader.hear(dressing.frame(answer.add("second")))
    reader.hear(dressing.frame(answer.end()))
    assert (reader.messages, reader.runs) == ({"u1": "Hi", OF: "second"}, ["success"])


def test_a_run_that_its_owner_leaves_open_is_closed() -> None:
    begin = [
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
        {"type": "STEP_STARTED", "stepName": "look"},
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "He"},
    ]
    for state, last in (("stopped", ["TEXT_MESSAGE_END", "STEP_FINISHED", "RUN_FINISHED"]), ("aborted", ["RUN_ERROR"])):
        for resumed in (False, True):
            answer, dressing = Answer("parts"), made("agui", "parts")
            got = [event for part in begin for event in dressing.frame(answer.add(part))]
            if resumed:
                dressing = made("agui", "parts", got[-1].id)
            assert [data_of(event)["type"] for event in dressing.frame(answer.end(state))] == last
    # A run that has ended gets nothing more.
    answer, dressing = Answer("parts"), made("agui", "parts")
    for part in (begin[0], {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}):
        dressing.frame(answer.add(part))
    assert dressing.frame(answer.end()) == []


def test_a_run_of_parts_that_begins_anew_is_another_run() -> None:
    started = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
    opened = {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    answer, dressing, reader = Answer("parts"), made("agui", "parts"), AgReader()
    for part in (started, opened):
        reader.hear(dressing.frame(answer.add(part)))
    reader.hear(dressing.frame(answer.anew()))
    for part in (started, {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}):
        reader.hear(dressing.frame(answer.add(part)))
    assert reader.runs == ["cancelled", "success"]


def test_the_frames_themselves_are_events_with_their_numbers() -> None:
    answer = Answer("text")
    dressing = made("parts")
    first = answer.snapshot()
    frames_in = [first, answer.add("Hel"), answer.part(1), answer.add("lo"), answer.end()]
    events = [event for frame in frames_in for event in dressing.frame(frame)]
    assert [(event.name, event.id) for event in events] == [
        ("snapshot", "0"), ("append", "1"), ("append", "2"), ("stream_end", "2"),
    ]  # fmt: skip
    assert [event.data for event in events] == [frames_in[index] for index in (0, 1, 3, 4)]
    assert dressing.over


def test_a_failure_is_told_in_each_form() -> None:
    error = BusError(ErrorCode.REVOKED)
    assert data_of(made("parts").failed(error)[0]) == {"error": error.as_dict()}
    assert data_of(made("agui").failed(error)[0]) == {"type": "RUN_ERROR", "message": error.message, "code": "REVOKED"}
    chunks = made("vercel").failed(error)
    assert [data_of(chunk) for chunk in chunks] == [{"type": "error", "errorText": error.message}, None]


@pytest.mark.parametrize("text", ["", "x", "1:", "-1", "1:g", "٣", "1" * 19, "1:2 "])
def test_what_is_no_position_is_none(text: str) -> None:
    assert position_of(text) is None


def test_a_position_of_other_content_counts_as_none() -> None:
    assert position_of("7") == Position(7, "")
    answer = Answer("text")
    answer.add("Hello")
    for last in ("7", "1:5"):
        events = [data_of(event) for event in made("agui", last=last).frame(answer.snapshot())]
        assert [event["type"] for event in events] == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
    for last in ("1:5.0", "1:ff.1"):
        events = [data_of(event) for event in made("agui", last=last).frame(answer.snapshot())]
        assert [event["type"] for event in events] == ["MESSAGES_SNAPSHOT", "TEXT_MESSAGE_CONTENT"]
    parts = Answer("parts")
    part = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
    parts.add(part)
    assert [data_of(event) for event in made("agui", "parts", "1:0.1").frame(parts.snapshot())] == [part]
