"""Erase for the law: after it, no table has the text of a message, nor of anything that belongs to it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.utils import timezone

from bus import log, services
from bus.auth.permissions import SYSTEM, Actor, table
from bus.log.erasures import newest
from bus.models import Amendment, AuditEntry, Channel, Client, Decision, Erasure, Job, Message, Room, Stream
from bus.protocol.errors import BusError
from bus.protocol.names import Address
from bus.services import archive, history
from tests.services.test_work import RULE

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "grüner hecht"
ADA, BOB = (Actor(principal=f"user:{n}", client_id=name) for n, name in enumerate(("ada", "bob"), 1))
CHAT = Address("team", "chat")


@pytest.fixture(autouse=True)
def _no_rules_of_other_tests() -> Iterator[None]:
    table().forget()
    yield
    table().forget()


@pytest.fixture(autouse=True)
def chat() -> Channel:
    """A channel, and two clients."""
    for actor in (ADA, BOB):
        Client.objects.create(client_id=actor.client_id, principal=actor.principal, screen_name=actor.client_id)
    return Channel.objects.create(room=Room.objects.create(name="team"), name="chat")


def say(address: Any = CHAT, actor: Actor = ADA, text: str = SECRET, **keys: Any) -> services.Published:
    return services.publish(address, message=text, actor=actor, **keys)


def places_of_the_secret() -> list[str]:
    """The tables that have the text in any spelling, each with its column."""
    found = []
    spellings = [SECRET, json.dumps(SECRET)[1:-1]]
    for model in apps.get_app_config("bus").get_models():
        for row in model._base_manager.values():
            found += [
                f"{model.__name__}.{key}"
                for key, value in row.items()
                if any(spelling in str(value) for spelling in spellings)
            ]
    return found


def frame(seq: int, address: Address = CHAT, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(history.message(SYSTEM, address, seq, **options))
    return told


def folded() -> list[dict[str, Any]]:
    """The folded messages of the channel, newest first."""
    page = history.page(SYSTEM, history.Question(CHAT, fold=True))
    return [json.loads(found.frame) for found in page.messages]


def refused(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(BusError) as caught:
        call(*args, **options)
    return caught.value.code


def test_a_message_keeps_its_place_and_loses_its_content_and_amendments(chat: Channel) -> None:
    one = say(metadata={"note": SECRET})
    services.edit_message(CHAT, one.id, payload={"text": SECRET}, actor=ADA)
    services.react(CHAT, one.id, SECRET, actor=BOB)
    other = say(text="stays")
    chat.refresh_from_db()
    epoch, before = chat.epoch, frame(1)
    assert set(places_of_the_secret()) == {"Message.frame", "Amendment.reaction"}

    assert services.erase_message(CHAT, seq=1).messages == 3
    assert places_of_the_secret() == []
    kept = ("version", "id", "type", "room", "channel", "from", "timestamp", "seq")
    assert frame(1) == {key: before[key] for key in kept} | {"payload": {}, "erased": True}
    assert (frame(2)["do"], frame(2)["of_seq"], frame(2)["erased"]) == ("edit", 1, True)
    assert (frame(3)["do"], "reaction" in frame(3)) == ("react", False)
    assert [told.get("erased") for told in folded()] == [None, True]
    assert not Amendment.objects.exists()
    chat.refresh_from_db()
    assert (chat.epoch, chat.head, frame(other.seq or 0)["message"]) == (epoch, 4, "stays")
    assert {(channel, seq) for _, channel, seq in newest()} == {(chat.pk, 1), (chat.pk, 2), (chat.pk, 3)}
    # A process that remembers the old frame does not think that the log lost a message.
    assert not log.went_back(chat.pk, epoch, 1, json.dumps(before).encode())
    assert log.went_back(chat.pk, epoch, 4, json.dumps(before).encode())
    assert services.erase_message(CHAT, id=one.id).messages == 0
    for call in (services.react, services.edit_message):
        options = {"reaction": "x"} if call is services.react else {"message": "x"}
        assert refused(call, CHAT, one.id, of_seq=1, actor=ADA, **options) == "MESSAGE_NOT_FOUND"
    assert [line for line in archive.lines(chat) if SECRET in line] == []


def test_who_may_erase_and_what() -> None:
    one = say()
    assert refused(services.erase_message, CHAT, seq=1, actor=ADA) == "FORBIDDEN"
    assert refused(services.erase_message, CHAT, seq=2) == "MESSAGE_NOT_FOUND"
    assert refused(services.erase_message, CHAT, id="arq_none") == "MESSAGE_NOT_FOUND"
    assert refused(services.erase_message, CHAT) == "VALIDATION_ERROR"
    assert refused(services.erase_message, CHAT, seq=1, id=one.id) == "VALIDATION_ERROR"
    assert refused(services.erase_message, "team:none", seq=1) == "CHANNEL_NOT_FOUND"
    assert refused(services.erase_message, "team:none", seq=1, actor=ADA) == "FORBIDDEN"
    assert refused(services.erase_client, "ada", actor=ADA) == "FORBIDDEN"
    assert places_of_the_secret() == ["Message.frame"]
    services.erase_message("team:chat", seq=1, door="rest")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target, entry.door, entry.details) == (
        "erase_message", "team:chat", "rest", {"seq": 1, "messages": 1},
    )  # fmt: skip


def test_an_erased_amendment_alone_has_no_text_and_still_does_what_it_did() -> None:
    one, two = say(text="hi"), say(text="hi")
    edit = services.edit_message(CHAT, one.id, message=SECRET, actor=ADA)
    delete = services.delete_message(CHAT, two.id, actor=ADA)
    services.react(CHAT, one.id, SECRET, actor=BOB)
    for seq in (edit.seq, delete.seq, 5):
        services.erase_message(CHAT, seq=seq)
    assert places_of_the_secret() == []
    assert (frame(1, fold=True)["payload"], frame(1, fold=True)["edited"]["seq"]) == ({}, edit.seq)
    assert "reactions" not in frame(1, fold=True)
    assert frame(2, fold=True)["deleted"]["seq"] == delete.seq
    assert frame(5, fold=True)["erased"]


def test_a_stream_goes_whole_also_while_it_grows() -> None:
    done, grows = (services.open_stream(CHAT, actor=ADA).id for _ in range(2))
    services.append_to_stream(done, 1, SECRET, actor=ADA)
    services.append_to_stream(grows, 1, SECRET, actor=ADA)
    services.end_stream(done, 1, actor=ADA)
    assert set(places_of_the_secret()) == {"Message.frame", "StreamPart.data"}
    services.erase_message(CHAT, seq=Stream.objects.get(uid=done).end_seq)
    services.erase_message(CHAT, id=grows)
    assert places_of_the_secret() == []
    assert not Stream.objects.exists()
    # Newest first. The end of a stream that is gone stays, as after its opening was pruned.
    assert [(told["type"], told["erased"]) for told in folded()] == [
        ("stream_end", True), ("stream_end", True), ("event", True), ("event", True),
    ]  # fmt: skip
    assert refused(services.append_to_stream, grows, 2, "more", actor=ADA) == "STREAM_NOT_FOUND"


def test_a_job_and_its_dead_letter_go_too() -> None:
    room = Room.objects.create(name="jobs")
    letters = Channel.objects.create(room=room, name="dead")
    jobs = Channel.objects.create(room=room, name="new", work={**RULE, "dead": "jobs:dead", "attempts": 1})
    say("jobs:new")
    say("jobs:new")
    _, done = Job.objects.order_by("seq")
    (claim,) = services.claim_jobs("jobs:new", actor=BOB).claims
    services.reject_job(claim.claim, error=SECRET, actor=BOB)
    Job.objects.filter(pk=done.pk).update(state=Job.State.DONE, result=json.dumps(SECRET), ended_at=timezone.now())
    assert {"Message.frame", "Job.errors", "Job.result"} <= set(places_of_the_secret())
    assert Message.objects.filter(channel=letters).count() == 1
    services.erase_message("jobs:new", seq=1)
    services.erase_message("jobs:new", seq=2)
    assert places_of_the_secret() == []
    assert list(jobs.jobs.order_by("seq").values_list("state", flat=True)) == ["discarded", "done"]


def test_the_arguments_of_a_decision_go_with_its_messages() -> None:
    asked = say(type="decision_requested")
    Decision.objects.create(
        channel=Channel.objects.get(name="chat"), seq=asked.seq, key=SECRET, digest="d", title=SECRET, action=SECRET,
        args=json.dumps({"a": SECRET}), answer_args=json.dumps({"a": SECRET}), comment=SECRET, schema={"a": SECRET},
        client_id="ada", expires_at=timezone.now(),
    )  # fmt: skip
    services.erase_message(CHAT, seq=asked.seq)
    assert places_of_the_secret() == []
    row = Decision.objects.get()
    assert (row.args, row.answer_args, row.key) == ("{}", "{}", row.uid)


def test_everything_that_a_client_sent_goes() -> None:
    for n in range(3):
        say(id=f"m{n}")
        say("team:*")
    services.send_private("bob", message=SECRET, actor=ADA)
    services.react(CHAT, say(text="hi", actor=BOB).id, SECRET, actor=ADA)
    Client.objects.filter(client_id="ada").update(
        screen_name=SECRET, personality={"a": SECRET}, status={"text": SECRET}
    )
    services.send_private("ada", message=SECRET, actor=BOB)
    out = io.StringIO()
    with pytest.raises(CommandError, match="There is no client aad"):
        call_command("erase_client", "aad", stdout=out)
    call_command("erase_client", "ada", stdout=out)
    assert "Erased 8 messages of ada." in out.getvalue()
    assert places_of_the_secret() == ["Message.frame"]
    call_command("erase_client", "ada", "--inbox", stdout=out)
    assert "Erased 1 messages of ada." in out.getvalue()
    assert places_of_the_secret() == []
    assert Message.objects.count() == 10
    assert AuditEntry.objects.filter(action="erase_client", target="ada", door="command").count() == 2


def test_an_import_knows_amendments_and_what_was_erased(chat: Channel) -> None:
    one, two = say(text="one"), say(text="two")
    services.edit_message(CHAT, one.id, message="eins", actor=ADA)
    services.react(CHAT, one.id, "👍", actor=BOB)
    services.delete_message(CHAT, two.id, actor=ADA)
    services.erase_message(CHAT, seq=services.react(CHAT, one.id, "x", actor=BOB).seq)
    services.publish(CHAT, type="amend", message="an event")
    before, lines = folded(), [line.encode() for line in archive.lines(chat)]
    chat.delete()
    assert sum(archive.take_in(SYSTEM, enumerate(lines, 1), door="test")) == len(lines)
    assert folded() == before
    assert Amendment.objects.count() == 3


def test_notes_of_erasures_are_forgotten_after_a_day() -> None:
    say()
    services.erase_message(CHAT, seq=1)
    log.prune(default_count=0, default_age=0, window=60)
    assert Erasure.objects.count() == 1
    Erasure.objects.update(at=timezone.now() - timedelta(days=2))
    log.prune(default_count=0, default_age=0, window=60)
    assert not Erasure.objects.exists()


def test_amendments_are_pruned_with_their_messages() -> None:
    one = say()
    services.react(CHAT, one.id, "x", actor=BOB)
    channel = Channel.objects.get(name="chat")
    assert log.drop(channel.pk, 1, 10) == 1
    assert not Amendment.objects.exists()


def test_a_job_loses_its_letter_in_a_former_channel_and_the_reply_with_its_result() -> None:
    room = Room.objects.create(name="jobs")
    jobs = Channel.objects.create(room=room, name="new", work={**RULE, "dead": "jobs:dead", "attempts": 1})
    say("jobs:new")
    (claim,) = services.claim_jobs("jobs:new", actor=BOB).claims
    services.reject_job(claim.claim, error=SECRET, actor=BOB)
    services.ask("jobs:new", {"n": 1}, actor=ADA)
    (claim,) = services.claim_jobs("jobs:new", actor=BOB).claims
    services.finish_job(claim.claim, result={"a": SECRET}, actor=BOB)
    jobs.work = {**RULE, "dead": "jobs:other"}
    jobs.save()
    assert Message.objects.filter(channel__name="ada", type="reply").count() == 1
    services.erase_message("jobs:new", seq=1)
    services.erase_message("jobs:new", seq=2)
    assert places_of_the_secret() == []


def test_the_errors_of_a_worker_go_with_it() -> None:
    room = Room.objects.create(name="jobs")
    Channel.objects.create(room=room, name="new", work={**RULE, "dead": "jobs:dead", "attempts": 1})
    Channel.objects.create(room=room, name="again", work={**RULE, "attempts": 3})
    for address in ("jobs:new", "jobs:again"):
        say(address, text="fine")
        (claim,) = services.claim_jobs(address, actor=BOB).claims
        services.reject_job(claim.claim, error=SECRET, actor=BOB)
    Job.objects.filter(channel__name="again").update(client_id="", state=Job.State.READY)
    assert set(places_of_the_secret()) == {"Job.errors", "Message.frame"}
    services.erase_client("bob")
    assert places_of_the_secret() == []
    assert frame(1, Address("jobs", "new"))["message"] == "fine"


def test_what_the_server_quotes_of_a_client_goes_although_its_own_messages_are_pruned() -> None:
    room = Room.objects.create(name="jobs")
    jobs = Channel.objects.create(room=room, name="new", work={**RULE, "dead": "jobs:dead", "attempts": 1})
    say("jobs:new")
    (claim,) = services.claim_jobs("jobs:new", actor=BOB).claims
    services.reject_job(claim.claim, error="no", actor=BOB)
    asked = services.request_decision(CHAT, key=SECRET, title=SECRET, action="a", args={}, actor=ADA)
    services.cancel_decision(asked.decision, actor=ADA)
    Message.objects.filter(channel=jobs).delete()
    Message.objects.filter(sender="ada").delete()
    assert set(places_of_the_secret()) == {"Decision.key", "Decision.title", "Message.frame"}
    services.erase_client("ada")
    assert places_of_the_secret() == []
