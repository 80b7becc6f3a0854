"""Amendments: what is read from their frames, what is refused, how they fold into a message, and what an erase leaves."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from bus.protocol import amending, frames, growing
from bus.protocol.dialects import read_closely
from bus.protocol.errors import ErrorCode
from bus.protocol.faults import FrameError
from bus.protocol.inbound import KIND_AMEND, KIND_PUBLISH, Amend, Inbound
from bus.protocol.names import Address
from bus.protocol.usual import usual

pytestmark = pytest.mark.pure

#: Messages, amendments, and what they fold to. The tests of both clients read the same file.
FOLDS = json.loads((Path(__file__).parent / "folds.json").read_text())


def read(**keys: Any) -> Inbound:
    """An edit of arq_m1, with other keys in its place."""
    frame = {"type": "amend", "id": "a1", "of": "arq_m1", "do": "edit", "message": "ho", "channel": "chat", **keys}
    return read_closely(json.dumps({key: value for key, value in frame.items() if value is not ...}).encode())


def faults(**keys: Any) -> dict[str, str]:
    """The faults of a refused frame, by field."""
    with pytest.raises(FrameError) as caught:
        read(**keys)
    assert caught.value.code == ErrorCode.VALIDATION_ERROR
    return {fault["field"]: fault["message"] for fault in caught.value.details}


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, Amend("arq_m1", "edit", edits=("message",))),
        ({"message": None, "payload": {"a": 1}}, Amend("arq_m1", "edit", edits=("payload",))),
        ({"payload": {}, "of_seq": 7}, Amend("arq_m1", "edit", 7, edits=("message", "payload"))),
        ({"message": ..., "content": "ho"}, Amend("arq_m1", "edit", edits=("message",))),
        ({"do": "delete", "of_seq": None}, Amend("arq_m1", "delete")),
        ({"do": "react", "reaction": "👩\u200d💻"}, Amend("arq_m1", "react", reaction="👩\u200d💻")),
        ({"do": "unreact", "reaction": "x" * 64}, Amend("arq_m1", "unreact", reaction="x" * 64)),
        ({"version": "1.0", "id": "arq_a1"}, Amend("arq_m1", "edit", edits=("message",))),
    ],
)
def test_a_frame_with_of_and_do_is_an_amendment(keys: dict[str, Any], wanted: Amend) -> None:
    found = read(**keys)
    assert (found.kind, found.type, found.amend, found.metadata) == (KIND_AMEND, "amend", wanted, None)


@pytest.mark.parametrize(
    "keys", [{"of": ...}, {"do": ...}, {"of": 7}, {"do": "edits"}, {"do": 7}, {"do": ["edit"]}, {"type": "amended"}]
)
def test_any_other_frame_is_an_event_of_that_type(keys: dict[str, Any]) -> None:
    found = read(**keys)
    assert (found.kind, found.amend) == (KIND_PUBLISH, None)
    assert found.type in ("amend", "amended")


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ({"of": ""}, {"of"}),
        ({"of": "x" * 161}, {"of"}),
        ({"of": "a\nb", "of_seq": 0}, {"of", "of_seq"}),
        ({"of_seq": "7"}, {"of_seq"}),
        ({"of_seq": -7}, {"of_seq"}),
        ({"of_seq": 7.5}, {"of_seq"}),
        ({"of_seq": 10**18}, {"of_seq"}),
        ({"message": None}, {"message"}),
        ({"reaction": "x"}, {"reaction"}),
        ({"do": "react"}, {"reaction"}),
        ({"do": "unreact", "reaction": None}, {"reaction"}),
        ({"do": "react", "reaction": ""}, {"reaction"}),
        ({"do": "react", "reaction": "x" * 65}, {"reaction"}),
        ({"do": "react", "reaction": 7}, {"reaction"}),
        ({"do": "react", "reaction": "a\u202eb"}, {"reaction"}),
        ({"payload": 7, "to": "bob"}, {"payload", "to"}),
    ],
)
def test_wrong_keys_are_told(keys: dict[str, Any], fields: set[str]) -> None:
    assert set(faults(**keys)) == fields


def test_the_usual_grammar_leaves_amendments_to_the_close_one() -> None:
    assert usual(b'{"type":"amend","of":"arq_m1","do":"delete"}') is None


def test_a_delivered_amendment_has_its_keys_before_the_payload() -> None:
    told = amending.amendment_keys(Amend("arq_m1", "edit", edits=("message",)), 3)
    assert told == b',"of":"arq_m1","of_seq":3,"do":"edit","edits":["message"]'
    told = amending.amendment_keys(Amend('a"b', "react", reaction="👍"), 3)
    assert told.decode() == ',"of":"a\\"b","of_seq":3,"do":"react","reaction":"👍"'


@pytest.mark.parametrize("case", FOLDS, ids=lambda case: case["name"])
def test_amendments_fold(case: dict[str, Any]) -> None:
    changes = [change for item in case["amendments"] if (change := amending.change_of(frames.encode(item)))]
    found = json.loads(amending.folded(frames.encode(case["message"]), changes))
    assert found == case["folded"]
    assert list(found.get("reactions", ())) == list(case["folded"].get("reactions", ()))
    random.Random(1).shuffle(changes)
    assert json.loads(amending.folded(frames.encode(case["message"]), changes)) == case["folded"]


@pytest.mark.parametrize("frame", [b"", b"[]", b'{"type":"amend","do":"edit"}', b"[" * 100_000])
def test_other_frames_change_nothing(frame: bytes) -> None:
    assert amending.change_of(frame) is None


def test_an_unknown_word_changes_nothing() -> None:
    frame = frames.encode({**FOLDS[1]["amendments"][0], "do": "twist"})
    assert amending.change_of(frame) is None


def test_the_erased_end_of_a_stream_still_ends_it() -> None:
    tail = growing.stream_end_tail("arq_s1", 1, "text", "complete", 2, [], b'{"a":1}', b"secret")
    head = growing.stream_end_head("arq_s1", None, Address("a", "b"), "c")
    told = json.loads(amending.erased(frames.finish_message(head, tail, b"t", 2)))
    assert (told["of"], told["of_seq"], told["stream"]["state"], told["untaken"]) == ("arq_s1", 1, "complete", [])
    assert (told["payload"], told["erased"], "message" in told) == ({}, True, False)


def test_an_erased_frame_keeps_its_place_alone() -> None:
    head = {
        "version": "1.0",
        "id": "arq_m1",
        "type": "event",
        "room": "a",
        "channel": "b",
        "from": "c",
        "timestamp": "t",
    }
    whole = {**head, "seq": 4, "of": "arq_m0", "do": "edit", "payload": {"a": 1}, "message": "x", "metadata": {"b": 2}}
    found = amending.erased(frames.encode(whole))
    assert json.loads(found) == {**head, "seq": 4, "payload": {}, "erased": True}
    assert amending.is_erased(found)
    assert amending.erased(found) == found
    amendment = amending.erased(frames.encode({**whole, "type": "amend", "reaction": "x", "of_seq": 3}))
    assert json.loads(amendment) == {
        **head, "type": "amend", "seq": 4, "of": "arq_m0", "of_seq": 3, "do": "edit", "payload": {}, "erased": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "tail", [{"message": True}, {"payload": {"payload": {}, "erased": True}}, {"metadata": {"erased": True}}]
)
def test_a_sender_cannot_write_an_erased_frame(tail: dict[str, Any]) -> None:
    told = frames.message_tail(read(**{"payload": {}, **tail}))
    assert not amending.is_erased(frames.finish_message(b'{"version":"1.0"', told, b"t", 1))


def test_an_edit_that_says_nothing_changes_nothing() -> None:
    frame = frames.encode(FOLDS[0]["message"])
    edited = {"seq": 2, "at": "t", "by": "alice"}
    found = amending.folded(frame, [amending.Change(2, "edit", "alice", "t")])
    assert json.loads(found) == {**FOLDS[0]["message"], "edited": edited}


def test_members_are_told_which_messages_were_erased() -> None:
    erased = [amending.ErasedMessage(1, "arq_m1"), amending.ErasedMessage(4, "arq_a4", 1, "edit")]
    told = json.loads(amending.erased_notice(Address("a", "b"), erased))
    assert (told["type"], told["room"], told["channel"]) == ("system", "a", "b")
    assert told["payload"] == {
        "event": "erased",
        "messages": [{"seq": 1, "id": "arq_m1"}, {"seq": 4, "id": "arq_a4", "of_seq": 1, "do": "edit"}],
    }
