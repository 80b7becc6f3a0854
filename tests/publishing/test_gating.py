"""Gates in the caller's thread: what they decide, what they may change, and what is rolled back."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from bus import gates, services
from bus.auth.permissions import SYSTEM, Actor
from bus.gates import GateMessage, Refuse, Swallow
from bus.models import Amendment, Channel, Client, Message, PublishKey
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import Address, inbox
from bus.publishing.django import message_to, publish, publish_frames
from bus.services import channels as channel_service
from bus.services import history

pytestmark = pytest.mark.django_db

ALICE = Actor(principal="user:7", name="alice", client_id="alice")


def noted(message: GateMessage, actor: Actor) -> None:
    Group.objects.create(name=f"{message.sender} {message.payload.get('n')}")


def rows() -> list[dict[str, Any]]:
    return [
        json.loads(frame) for frame in Message.objects.order_by("channel_id", "seq").values_list("frame", flat=True)
    ]


def refused(code: ErrorCode, act: Callable[[], Any]) -> BusError:
    with pytest.raises(BusError) as caught:
        act()
    assert caught.value.code == code
    return caught.value


def test_a_gate_writes_its_rows_together_with_the_message() -> None:
    with gates.only(("shop:*", noted)):
        assert publish("shop:bids", {"n": 1}, actor=ALICE).seq == 1
        assert publish("else:where", {"n": 2}, actor=ALICE).seq == 1
    assert list(Group.objects.values_list("name", flat=True)) == ["alice 1"]


def test_a_refusal_keeps_nothing_and_leaves_the_callers_rows() -> None:
    def check(message: GateMessage, actor: Actor) -> None:
        noted(message, actor)
        if message.payload["n"] < 12:
            raise Refuse("TOO_LOW", "Bid 12 or more.")

    with gates.only(("shop:bids", check)), transaction.atomic():
        Group.objects.create(name="the caller's")
        problem = refused(ErrorCode.REFUSED, lambda: publish("shop:bids", {"n": 1}, actor=ALICE))
        assert (problem.message, problem.details, problem.number) == ("Bid 12 or more.", [{"code": "TOO_LOW"}], 422)
        publish("shop:bids", {"n": 12}, actor=ALICE)
    assert set(Group.objects.values_list("name", flat=True)) == {"the caller's", "alice 12"}
    assert [row["payload"] for row in rows()] == [{"n": 12}]


def test_the_projects_own_code_and_private_messages_meet_no_gate() -> None:
    def never(message: GateMessage, actor: Actor) -> None:
        raise Refuse("NEVER", "Never.")

    with gates.only(("*", never)):
        publish("shop:bids", {"n": 1})
        assert gates.gates_of(inbox("alice")) == ()
        refused(ErrorCode.REFUSED, lambda: publish("*:*", {"n": 3}, actor=Actor("user:1", "root", "root", admin=True)))
        refused(ErrorCode.REFUSED, lambda: publish("shop:*", {"n": 3}, actor=ALICE))
    assert len(rows()) == 1
    with pytest.raises(ValueError, match="no gate"):
        gates.before("pm:alice")


def test_an_exception_leaves_one_traceback_without_texts_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def broken(message: GateMessage, actor: Actor) -> None:
        noted(message, actor)
        int(message.payload["n"])

    with gates.only(("shop:bids", broken)), caplog.at_level(logging.ERROR, "arqonbus.gates"):
        problem = refused(ErrorCode.INTERNAL_ERROR, lambda: publish("shop:bids", {"n": "a secret"}, actor=ALICE))
    (record,) = caplog.records
    assert problem.details == [{"reference": record.reference}]  # type: ignore[attr-defined]
    # A project's own LOGGING shows the text and no other fields.
    text = logging.Formatter().format(record)
    assert record.reference in text.splitlines()[0]  # type: ignore[attr-defined]
    assert "ValueError" in text
    assert "in broken" in text
    assert "a secret" not in text
    assert (rows(), Group.objects.count()) == ([], 0)


def test_a_changed_payload_is_what_is_kept_and_the_rest_stays_as_it_was_sent() -> None:
    def masks(message: GateMessage, actor: Actor) -> None:
        message.payload["text"] = "***"

    def counts(message: GateMessage, actor: Actor) -> None:
        assert message.payload["text"] == "***"
        message.payload = {**message.payload, "n": 1}

    with gates.only(("shop:bids", masks), ("shop:*", counts)):
        publish("shop:bids", {"text": "a secret"}, metadata={"m": 1.0}, type="note", actor=ALICE)
    (kept,) = rows()
    assert (kept["payload"], kept["metadata"], kept["type"]) == ({"text": "***", "n": 1}, {"m": 1.0}, "note")


@pytest.mark.parametrize("place", ["payload", "message"])
def test_a_text_that_is_masked_at_one_place_is_masked_at_the_other(place: str) -> None:
    def masks(message: GateMessage, actor: Actor) -> None:
        if place == "payload":
            message.payload["message"] = "***"
        else:
            message.message = "***"

    with gates.only(("shop:bids", masks)):
        publish("shop:bids", message="a secret", actor=ALICE)
    (kept,) = rows()
    assert (kept["payload"], kept["message"]) == ({"message": "***"}, "***")


@pytest.mark.parametrize(
    "value", [None, [1], "text", {"deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
              {"n": 10**30}, {"x": object()}, {"long": "x" * 300_000}]
)  # fmt: skip
def test_a_payload_that_no_frame_may_have_is_a_fault_of_the_gate(value: Any) -> None:
    def wrong(message: GateMessage, actor: Actor) -> None:
        message.payload = value

    with gates.only(("shop:bids", wrong)):
        refused(ErrorCode.INTERNAL_ERROR, lambda: publish("shop:bids", {"n": 1}, actor=ALICE))
    assert not rows()


@pytest.mark.parametrize("how", ["call", "raise"])
@pytest.mark.parametrize("ephemeral", [False, True])
def test_a_swallowed_message_keeps_the_gates_rows_and_its_id(how: str, ephemeral: bool) -> None:
    def swallows(message: GateMessage, actor: Actor) -> None:
        noted(message, actor)
        if how == "raise":
            raise Swallow
        message.swallow()

    def never(message: GateMessage, actor: Actor) -> None:
        raise AssertionError("a swallowed message meets no further gate")

    channel_service.create_channel(SYSTEM, Address("shop", "bids"), ephemeral=ephemeral, door="test")
    with gates.only(("shop:bids", swallows), ("shop:*", never)):
        first = publish("shop:bids", {"n": 1}, id=f"one-{how}-{ephemeral}", actor=ALICE)
        assert (first.kept, first.seq, first.duplicate) == (False, None, False)
        if not ephemeral:
            again = publish("shop:bids", {"n": 1}, id=f"one-{how}-{ephemeral}", actor=ALICE)
            assert (again.kept, again.seq, again.duplicate) == (False, None, True)
        publish("shop:bids", {"n": 2}, actor=ALICE)
    assert Group.objects.count() == 2
    assert not rows()
    assert Channel.objects.get(name="bids").head == 0


def test_a_repeat_meets_no_gate_and_a_refused_id_may_come_again() -> None:
    met: list[int] = []

    def once(message: GateMessage, actor: Actor) -> None:
        met.append(1)
        if len(met) == 1:
            raise Refuse("NOT_YET", "Later.")

    with gates.only(("shop:bids", once)):
        refused(ErrorCode.REFUSED, lambda: publish("shop:bids", {"n": 1}, id="one", actor=ALICE))
        assert not PublishKey.objects.exists()
        assert [publish("shop:bids", {"n": 1}, id="one", actor=ALICE).duplicate for _ in range(2)] == [False, True]
    assert len(met) == 2


def test_a_batch_is_kept_as_a_whole_or_not_at_all() -> None:
    def check(message: GateMessage, actor: Actor) -> None:
        noted(message, actor)
        if message.payload["n"] == 3:
            raise Refuse("NO_THREE", "No 3.")
        if message.payload["n"] == 2:
            message.swallow()

    def send(*numbers: int) -> Any:
        frames = [message_to("shop:bids", {"n": n}) for n in numbers] + [message_to("else:where", {"n": 0})]
        return publish_frames(frames, actor=ALICE).published

    with gates.only(("shop:bids", check)):
        problem = refused(ErrorCode.REFUSED, lambda: send(1, 2, 3))
        assert problem.details == [{"index": 2, "code": "NO_THREE"}]
        assert (rows(), Group.objects.count()) == ([], 0)
        assert [(place.seq, place.kept) for place in send(1, 2, 4)][1] == (None, False)
    assert sorted(row["payload"]["n"] for row in rows()) == [0, 1, 4]


@pytest.mark.parametrize("swallows", [False, True])
def test_a_batch_that_repeats_an_id_meets_the_gate_once(*, swallows: bool) -> None:
    met: list[int] = []

    def check(message: GateMessage, actor: Actor) -> None:
        met.append(1)
        if swallows:
            message.swallow()

    def send(*channels: str) -> Any:
        frames = [message_to(Address("shop", name), {"n": 1}, id=f"of {channels[-1]}") for name in channels]
        return publish_frames(frames, actor=ALICE).published

    with gates.only(("shop:*", check)):
        first, again = send("bids", "bids")
        assert (first.duplicate, again.duplicate, again.seq) == (False, True, first.seq)
        assert (again.kept is False, len(met)) == (swallows, 1)
        refused(ErrorCode.VALIDATION_ERROR, lambda: send("bids", "asks"))
    assert len(rows()) == (0 if swallows else 1)


def test_a_gate_may_publish_before_its_message_and_a_circle_of_gates_ends(caplog: pytest.LogCaptureFixture) -> None:
    def logs(message: GateMessage, actor: Actor) -> None:
        publish("shop:bids", {"before": message.id})

    def circles(message: GateMessage, actor: Actor) -> None:
        publish("shop:circle", {}, actor=actor)

    with gates.only(("shop:bids", logs), ("shop:circle", circles)):
        place = publish("shop:bids", {"n": 1}, actor=ALICE)
        with caplog.at_level(logging.ERROR, "arqonbus.gates"):
            refused(ErrorCode.INTERNAL_ERROR, lambda: publish("shop:circle", {"n": 1}, actor=ALICE))
    assert [row["payload"] for row in rows()] == [{"before": place.id}, {"n": 1}]
    assert len(caplog.records) == 1


def test_a_gate_that_deletes_the_channel_of_its_message_fails_and_the_channel_stays() -> None:
    def deletes(message: GateMessage, actor: Actor) -> None:
        Channel.objects.filter(name="bids").delete()

    publish("shop:bids", {"n": 0})
    with gates.only(("shop:bids", deletes)):
        refused(ErrorCode.INTERNAL_ERROR, lambda: publish("shop:bids", {"n": 1}, actor=ALICE))
    assert [row["payload"] for row in rows()] == [{"n": 0}]


def test_a_gate_that_hides_an_error_of_the_database_keeps_nothing() -> None:
    def hides(message: GateMessage, actor: Actor) -> None:
        Group.objects.create(name="twice")
        with contextlib.suppress(DatabaseError):
            connection.cursor().execute("SELECT * FROM no_such_table")

    with gates.only(("shop:bids", hides)), nullcontext() if connection.vendor == "sqlite" else pytest.raises(BusError):
        publish("shop:bids", {"n": 1}, actor=ALICE)
    # SQLite undoes the wrong statement alone, and PostgreSQL the whole transaction.
    assert (len(rows()), Group.objects.count()) == ((1, 1) if connection.vendor == "sqlite" else (0, 0))


def test_amendments_meet_the_gate_of_their_channel() -> None:
    seen: list[tuple[str, str | None, str]] = []

    def no_fish(message: GateMessage, actor: Actor) -> None:
        Group.objects.create(name=f"row {len(seen)}")
        seen.append((message.type, message.message, actor.name))
        if message.message == "a fish":
            raise Refuse("FISH", "No fish.")
        if message.message:
            message.message = message.message.upper()

    since = timezone.now() - timedelta(hours=1)
    Client.objects.create(client_id="alice", principal=ALICE.principal, proven_since=since)
    with gates.only(("shop:bids", no_fish)):
        first = publish("shop:bids", message="a bird", actor=ALICE)
        refused(ErrorCode.REFUSED, lambda: services.edit_message("shop:bids", first.id, message="a fish", actor=ALICE))
        assert (len(rows()), Group.objects.count(), Amendment.objects.count()) == (1, 1, 0)
        services.edit_message("shop:bids", first.id, message="a cat", actor=ALICE)
        services.react("shop:bids", first.id, "!", actor=ALICE)
    assert seen == [
        ("event", "a bird", "alice"), ("amend", "a fish", "alice"), ("amend", "a cat", "alice"), ("amend", None, "alice"),
    ]  # fmt: skip
    shown = json.loads(history.message(SYSTEM, Address("shop", "bids"), 1, fold=True))
    assert (shown["message"], shown["reactions"]) == ("A CAT", {"!": ["alice"]})
