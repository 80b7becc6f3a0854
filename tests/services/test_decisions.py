"""Decisions from Django code: asked, decided, used and withdrawn, by whom it may be, and once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import F
from django.db.models.signals import post_init
from django.utils import timezone
from msgspec.structs import replace

from bus import services, shapes
from bus.auth import identity
from bus.auth.permissions import DECIDE, Actor, table
from bus.models import AccessToken, AuditEntry, Channel, Client, Decision, Grant, Message, Room
from bus.protocol.errors import BusError
from bus.services import decision_expiry, decision_lists, decision_requests
from bus.services.belongings import disown
from bus.services.decision_lists import Wanted
from bus.services.sweeping import sweep_channels
from bus.signals import decision_made

pytestmark = pytest.mark.django_db(transaction=True)

BOT = Actor(principal="token:900", name="bot", client_id="bot")
OTHER = Actor(principal="jwt:other", name="other", client_id="other")
ANN, BEN = (Actor(principal=f"jwt:{name}", name=name, client_id=name, user=f"jwt:{name}") for name in ("ann", "ben"))
GUEST = Actor(client_id="guest", address="10.0.0.1")


@pytest.fixture(autouse=True)
def _deciders() -> Iterator[None]:
    table().forget()
    for name in ("ann", "ben"):
        Grant.objects.create(subject="user", subject_name=f"jwt:{name}", action=DECIDE, pattern="desk:*")
    table().forget()
    yield
    table().forget()


def ask(actor: Actor = BOT, **changes: Any) -> shapes.Decision:
    given: dict[str, Any] = {
        "key": "refund-1", "title": "Refund 20?", "action": "refund", "args": {"amount": 20},
        "allow": ["approve", "edit", "reject", "respond"],
    }  # fmt: skip
    return services.request_decision("desk:refunds", actor=actor, **(given | changes))


def refused(call: Any, *args: Any, **options: Any) -> tuple[str, Any]:
    """The code and the first detail of an error."""
    with pytest.raises(BusError) as raised:
        call(*args, **options)
    return raised.value.code.value, (raised.value.details or [None])[0]


def in_the_past(uid: str, **fields: timedelta) -> None:
    Decision.objects.filter(uid=uid).update(**{name: timezone.now() - age for name, age in fields.items()})


def test_a_question_is_asked_and_told_in_its_channel() -> None:
    asked = ask()
    assert (asked.state, asked.asker, asked.args, asked.by, asked.may_decide) == (
        "pending",
        "bot",
        {"amount": 20},
        None,
        False,
    )
    told = Message.objects.get(type="decision_requested").as_dict()
    assert told["from"] == "bot"
    assert told["payload"]["decision"]["decision"] == asked.decision
    assert ask().decision == asked.decision
    assert Message.objects.count() == 1
    assert ask(args={"amount": 20}).decision == asked.decision
    assert refused(ask, args={"amount": 21})[1]["decision"] == asked.decision
    assert services.decision(asked.decision, actor=ANN).may_decide is True


def test_the_first_answer_counts() -> None:
    heard: list[Any] = []

    def receiver(**given: Any) -> None:
        heard.append(given["decision"])

    decision_made.connect(receiver)
    asked = ask()
    made = services.decide(asked.decision, "approve", comment="fine", actor=ANN)
    assert (made.state, made.answer, made.by, made.comment) == ("approved", "approve", "ann", "fine")
    assert [one.state for one in heard] == ["approved"]
    assert services.decide(asked.decision, "reject", actor=ANN).state == "approved"
    code, detail = refused(services.decide, asked.decision, "reject", actor=BEN)
    assert (code, detail["by"], detail["state"]) == ("DECISION_ENDED", "ann", "approved")
    told = Message.objects.get(type="decision_made").as_dict()
    assert told["from"] == "arqonbus_server"
    assert told["payload"]["decision"]["state"] == "approved"
    assert set(AuditEntry.objects.values_list("action", flat=True)) >= {"request_decision", "decide"}


def test_who_may_not_decide() -> None:
    user = get_user_model().objects.create_user("sam", password="x")
    own = identity.from_user(user)
    token, secret = AccessToken.issue("agent", user=user)
    Grant.objects.create(subject="user", subject_name="sam", action=DECIDE, pattern="desk:*")
    table().forget()
    agent = identity.from_bearer(secret)
    asked = ask(replace(agent, client_id="sams-agent"))
    assert token.name in agent.token
    assert agent.principal == own.principal
    # The same user, by the session and by another token.
    for actor in (own, identity.from_bearer(AccessToken.issue("second", user=user)[1])):
        assert refused(services.decide, asked.decision, "approve", actor=actor)[0] == "FORBIDDEN"
    assert refused(services.decide, asked.decision, "approve", actor=OTHER)[0] == "FORBIDDEN"
    assert refused(services.decide, asked.decision, "approve", actor=GUEST)[0] == "FORBIDDEN"
    Grant.objects.create(subject="anonymous", action=DECIDE, pattern="desk:*")
    table().forget()
    assert refused(services.decide, asked.decision, "approve", actor=GUEST)[0] == "FORBIDDEN"
    assert services.decide(asked.decision, "approve", actor=ANN).state == "approved"


def test_a_withdrawn_right_acts_at_once() -> None:
    asked = ask()
    assert table().rules()  # This process has read the grants, and hears of no change.
    Grant.objects.filter(subject_name="jwt:ann")._raw_delete(using="default")
    assert refused(services.decide, asked.decision, "approve", actor=ANN)[0] == "FORBIDDEN"
    user = get_user_model().objects.create_superuser("root", password="x")
    admin = identity.from_user(user)
    get_user_model().objects.update(is_superuser=False, is_staff=False)
    assert refused(services.decide, asked.decision, "approve", actor=admin)[0] == "FORBIDDEN"


def test_edited_arguments_match_the_schema() -> None:
    schema = {"type": "object", "properties": {"amount": {"type": "integer", "maximum": 30}}, "required": ["amount"]}
    asked = ask(schema=schema)
    decide = services.decide
    assert refused(decide, asked.decision, "edit", actor=ANN)[1]["field"] == "args"
    assert refused(decide, asked.decision, "approve", args={"amount": 1}, actor=ANN)[1]["field"] == "args"
    assert refused(decide, asked.decision, "respond", actor=ANN)[1]["field"] == "comment"
    assert "maximum" in refused(decide, asked.decision, "edit", args={"amount": 31}, actor=ANN)[1]["message"]
    made = decide(asked.decision, "edit", args={"amount": 30}, actor=ANN)
    assert (made.state, made.args, made.asked_args) == ("edited", {"amount": 30}, {"amount": 20})


def test_an_answer_is_used_once_and_found_by_its_key_until_then() -> None:
    asked = ask()
    assert refused(services.consume_decision, asked.decision, actor=BOT)[1]["state"] == "pending"
    services.decide(asked.decision, "approve", actor=ANN)
    # The asker was away.
    assert (ask().decision, ask().state) == (asked.decision, "approved")
    assert refused(services.consume_decision, asked.decision, actor=ANN)[0] == "FORBIDDEN"
    assert services.consume_decision(asked.decision, actor=BOT).consumed_at is not None
    assert refused(services.consume_decision, asked.decision, actor=BOT)[0] == "ALREADY_USED"
    assert ask().decision != asked.decision


def test_a_no_lasts_for_an_hour() -> None:
    asked = ask()
    services.decide(asked.decision, "reject", comment="too much", actor=ANN)
    code, detail = refused(ask)
    assert (code, detail["decision"], detail["comment"], detail["by"]) == (
        "REJECTED_BEFORE", asked.decision, "too much", "ann",
    )  # fmt: skip
    # Neither another client id nor another channel of the same asker changes it.
    assert refused(ask, replace(BOT, client_id="bot-2"))[0] == "REJECTED_BEFORE"
    assert ask(args={"amount": 5}).state == "pending"
    in_the_past(asked.decision, ended_at=timedelta(hours=1, minutes=1))
    assert ask(key="other").state == "pending"


def test_expiry_ends_as_the_asker_said() -> None:
    for key, on_expiry, state in (("a", "reject", "rejected"), ("b", "approve", "approved"), ("c", "none", "expired")):
        asked = ask(key=key, on_expiry=on_expiry)
        in_the_past(asked.decision, expires_at=timedelta(seconds=1))
        code, detail = refused(services.decide, asked.decision, "approve", actor=ANN)
        assert (code, detail["state"], detail["by"]) == ("DECISION_ENDED", state, None)
        # That end counts, so the sweep has nothing left.
        ended = services.decision(asked.decision)
        # Nobody looked at it, which `answer` shows, also where the asker chose that the end is a yes.
        assert (ended.state, ended.answer) == (state, None)
    asked = ask(key="d")
    in_the_past(asked.decision, expires_at=timedelta(seconds=1))
    assert decision_expiry.look([]).overdue
    assert (decision_expiry.sweep(), decision_expiry.sweep()) == (1, 0)
    # Nobody said no, so the same may be asked again.
    assert services.decision(asked.decision).state == "rejected"
    assert ask(key="d").state == "pending"


def test_a_question_is_withdrawn() -> None:
    asked = ask()
    assert refused(services.cancel_decision, asked.decision, actor=ANN)[0] == "FORBIDDEN"
    assert services.cancel_decision(asked.decision, actor=BOT).state == "cancelled"
    assert services.cancel_decision(asked.decision, actor=BOT).state == "cancelled"
    assert refused(services.decide, asked.decision, "approve", actor=ANN)[1]["state"] == "cancelled"


def test_hidden_channels_hide_their_decisions() -> None:
    room = Room.objects.create(name="secret", private=True)
    Channel.objects.create(room=room, name="plans")
    Grant.objects.create(subject="token", subject_name="bot", action="publish", pattern="secret:*")
    table().forget()
    given: dict[str, Any] = {"key": "k", "title": "t", "action": "a"}
    bot = replace(BOT, token="bot")
    asked = services.request_decision("secret:plans", actor=bot, **given)
    for call in (services.decision, services.cancel_decision, services.consume_decision):
        assert refused(call, asked.decision, actor=ANN)[0] == "DECISION_NOT_FOUND"
    assert refused(services.decide, asked.decision, "approve", actor=ANN)[0] == "DECISION_NOT_FOUND"
    assert refused(services.decide, "arq_dec_0", "approve", actor=ANN)[0] == "DECISION_NOT_FOUND"
    assert decision_lists.list_decisions(ANN)[0] == []
    assert [one.decision for one in decision_lists.list_decisions(bot)[0]] == [asked.decision]
    assert refused(services.request_decision, "secret:plans", actor=OTHER, **given)[0] == "CHANNEL_NOT_FOUND"
    assert refused(services.request_decision, "secret:none", actor=OTHER, **given)[0] == "CHANNEL_NOT_FOUND"


def test_lists() -> None:
    uids = [ask(key=f"k{n}").decision for n in range(5)]
    services.decide(uids[0], "approve", actor=ANN)
    own = ask(ANN, key="mine")

    def listed(actor: Actor, limit: int = 50, **wanted: Any) -> list[str]:
        found, after = decision_lists.list_decisions(actor, Wanted(**wanted), limit=limit)
        while after is not None:
            rows, after = decision_lists.list_decisions(actor, Wanted(**wanted), limit=limit, after=after)
            found += rows
        return [one.decision for one in found]

    assert listed(ANN, to_decide=True) == listed(ANN, 2, to_decide=True) == uids[:0:-1]
    assert listed(ANN, mine=True) == [own.decision]
    assert listed(OTHER, state="approved") == [uids[0]]
    assert listed(OTHER, to_decide=True) == []
    assert refused(decision_lists.list_decisions, ANN, after="x")[0] == "VALIDATION_ERROR"


def test_a_taken_id_gives_nobody_the_answers() -> None:
    Client.objects.create(client_id="guest")
    waiting, answered = ask(GUEST), ask(GUEST, key="other")
    services.decide(answered.decision, "approve", actor=ANN)
    with transaction.atomic():
        assert disown(["guest"]) == set()
    assert services.decision(waiting.decision).state == "cancelled"
    assert refused(services.consume_decision, answered.decision, actor=GUEST)[0] == "FORBIDDEN"
    assert ask(GUEST, key="other").decision != answered.decision


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("key", {"key": ""}),
        ("title", {"title": "two\nlines"}),
        ("action", {"action": "x" * 129}),
        ("allow", {"allow": []}),
        ("allow", {"allow": ["approve", "approve"]}),
        ("expires", {"expires": float("nan")}),
        ("expires", {"expires": 31 * 86400}),
        ("on_expiry", {"on_expiry": "maybe"}),
        ("args", {"args": [1]}),
        ("args", {"args": {"text": "x" * 70_000}}),
        ("args", {"args": {"text": "\x00"}}),
        ("args", {"args": {"deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}}),
        ("schema", {"schema": {"type": "nothing"}}),
        ("schema", {"schema": {"properties": {"a": {"$ref": "https://example.org/schema"}}}}),
        ("schema", {"schema": {"properties": {"a": {"pattern": "(a+)+$"}}}}),
    ],
)
def test_what_cannot_be_asked(field: str, changes: dict[str, Any]) -> None:
    code, detail = refused(ask, **changes)
    assert (code, detail["field"]) == ("VALIDATION_ERROR", field)
    assert not Decision.objects.exists()


def test_where_nobody_can_be_asked() -> None:
    room = Room.objects.create(name="jobs")
    Channel.objects.create(room=room, name="new", work={})
    given: dict[str, Any] = {"key": "k", "title": "t", "action": "a"}
    for address in ("jobs:new", "jobs:*", "pm:ann", "*:*"):
        assert refused(services.request_decision, address, actor=BOT, **given)[1]["field"] == "channel"


def test_a_caller_that_rolls_back_has_asked_and_decided_nothing() -> None:
    asked = ask()
    with transaction.atomic():
        services.decide(asked.decision, "approve", actor=ANN)
        ask(key="other")
        transaction.set_rollback(True)
    assert Decision.objects.get().state == "pending"
    assert Message.objects.count() == 1


def test_strangers_fill_no_table() -> None:
    asked = ask(GUEST)
    services.cancel_decision(asked.decision, actor=GUEST)
    for number in range(99):
        services.cancel_decision(ask(GUEST, key=f"k{number}").decision, actor=GUEST)
    code, detail = refused(ask, replace(GUEST, client_id="other"))
    assert (code, detail["limit"]) == ("LIMIT_REACHED", "decisions")
    assert ask(BOT).state == "pending"
    in_the_past(asked.decision, ended_at=timedelta(hours=2))
    assert ask(GUEST).state == "pending"


def test_a_no_in_a_hidden_channel_tells_other_strangers_nothing() -> None:
    room = Room.objects.create(name="secret", private=True)
    Channel.objects.create(room=room, name="plans")
    Grant.objects.create(subject="client_type", subject_name="guide", action="publish", pattern="secret:*")
    Grant.objects.create(subject="user", subject_name="jwt:ann", action=DECIDE, pattern="secret:*")
    table().forget()
    given: dict[str, Any] = {"key": "k", "title": "t", "action": "a"}
    guide = Actor(client_id="guide", client_type="guide")
    asked = services.request_decision("secret:plans", actor=guide, **given)
    services.decide(asked.decision, "reject", comment="not before May", actor=ANN)
    assert refused(services.request_decision, "desk:refunds", actor=guide, **given)[1]["comment"] == "not before May"
    # All strangers count as one, so a new client id does not get around the no.
    assert refused(services.request_decision, "desk:refunds", actor=GUEST, **given) == ("REJECTED_BEFORE", None)


def test_a_page_reads_few_large_rows_at_once() -> None:
    for number in range(60):
        ask(key=f"k{number}")
    read: list[Any] = []

    def note(instance: Any, **_: Any) -> None:
        read.append(instance.pk)

    post_init.connect(note, sender=Decision)
    try:
        rows, after = decision_lists.list_decisions(ANN, limit=2)
    finally:
        post_init.disconnect(note, sender=Decision)
    assert len(rows) == 2
    assert after is not None
    assert len(read) <= decision_lists.READ
    assert len(decision_lists.list_decisions(ANN, limit=100)[0]) == 60


@pytest.mark.cluster
def test_the_time_of_others_ends_while_a_transaction_holds_one_channel() -> None:
    held = ask()
    free = services.request_decision("desk:free", key="k", title="t", action="a", actor=BOT)
    in_the_past(held.decision, expires_at=timedelta(seconds=2))
    in_the_past(free.decision, expires_at=timedelta(seconds=1))
    holds, over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Channel.objects.filter(name="refunds").update(head=F("head"))
            holds.set()
            over.wait(30)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert holds.wait(10)
        assert decision_expiry.sweep() == 1
        assert services.decision(free.decision).state == "rejected"
        assert services.decision(held.decision).state == "pending"
    finally:
        over.set()
        thread.join()
    assert decision_expiry.sweep() == 1


def test_an_idle_channel_waits_for_its_decisions() -> None:
    asked = ask()
    Message.objects.all()._raw_delete(using="default")
    old = timezone.now() - timedelta(days=30)
    Channel.objects.update(auto_created=True, touched_at=old, created_at=old)
    assert sweep_channels(60) == 0
    in_the_past(asked.decision, expires_at=timedelta(days=29))
    decision_expiry.sweep()
    in_the_past(asked.decision, ended_at=timedelta(days=8))
    Message.objects.all()._raw_delete(using="default")
    Channel.objects.update(touched_at=old)
    assert sweep_channels(60) == 1
    assert not Decision.objects.exists()


def test_what_nobody_answered_is_forgotten() -> None:
    kept, gone = ask(), ask(key="gone")
    services.decide(kept.decision, "approve", actor=ANN)
    services.cancel_decision(gone.decision, actor=BOT)
    for one in (kept, gone):
        in_the_past(one.decision, ended_at=timedelta(days=8))
    assert decision_expiry.forget(0, 100) == 1
    assert Decision.objects.get().uid == kept.decision


def test_a_channel_that_goes_at_the_moment_of_the_question_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = decision_requests._channel

    def found_and_gone(*args: Any) -> Any:
        ref = found(*args)
        Channel.objects.filter(pk=ref.id).delete()
        return ref

    monkeypatch.setattr(decision_requests, "_channel", found_and_gone)
    assert refused(ask)[0] == "CHANNEL_NOT_FOUND"
    assert not Decision.objects.exists()
