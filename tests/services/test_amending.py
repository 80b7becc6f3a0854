"""Amendments from Django code: what is kept, folded history, limits, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bus import gates, services
from bus.auth.permissions import SYSTEM, Actor, table
from bus.models import Amendment, AuditEntry, Channel, Client, Room
from bus.protocol.errors import BusError
from bus.protocol.names import Address
from bus.services import history

pytestmark = pytest.mark.django_db(transaction=True)

ADA, BOB = (Actor(principal=f"user:{n}", client_id=name) for n, name in enumerate(("ada", "bob"), 1))
CHAT = Address("team", "chat")


@pytest.fixture(autouse=True)
def _no_rules_of_other_tests() -> Iterator[None]:
    table().forget()
    yield
    table().forget()


@pytest.fixture(autouse=True)
def chat() -> Channel:
    """A channel, and two clients that are known for an hour."""
    since = timezone.now() - timedelta(hours=1)
    for actor in (ADA, BOB):
        Client.objects.create(client_id=actor.client_id, principal=actor.principal, proven_since=since)
    return Channel.objects.create(room=Room.objects.create(name="team"), name="chat")


def test_a_gate_knows_what_an_amendment_does() -> None:
    done: list[tuple[str | None, dict[str, Any]]] = []
    with gates.only(("team:*", lambda message, actor: done.append((message.do, message.payload)))):
        said = say()
        services.edit_message(CHAT, said.id, payload={"n": 2}, actor=ADA)
        services.react(CHAT, said.id, "+1", actor=BOB)
        services.delete_message(CHAT, said.id, actor=ADA)
    assert [do for do, _ in done] == [None, "edit", "react", "delete"]
    assert [payload for _, payload in done[1:]] == [{"n": 2}, {}, {}]


def say(text: str = "hi", actor: Actor = ADA, **keys: Any) -> services.Published:
    return services.publish(CHAT, message=text, actor=actor, **keys)


def refused(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(BusError) as caught:
        call(*args, **options)
    return caught.value.code


def folded(**keys: Any) -> list[dict[str, Any]]:
    """The folded messages of the channel, oldest first."""
    page = history.page(SYSTEM, history.Question(CHAT, descending=False, fold=True, **keys))
    return [json.loads(found.frame) for found in page.messages]


def test_who_sent_a_message_edits_and_deletes_it() -> None:
    one, two = say(), say("two")
    services.edit_message(CHAT, one.id, message="ho", actor=ADA)
    services.delete_message(CHAT, two.id, of_seq=two.seq, actor=ADA)
    assert refused(services.edit_message, CHAT, one.id, message="no", actor=BOB) == "FORBIDDEN"
    assert refused(services.delete_message, CHAT, one.id, actor=BOB) == "FORBIDDEN"
    services.react(CHAT, one.id, "👍", actor=BOB)
    services.unreact(CHAT, one.id, "👍", actor=ADA)
    first, second = folded()
    assert (first["message"], first["edited"]["by"], first["reactions"]) == ("ho", "ada", {"👍": ["bob"]})
    assert (second["payload"], second["deleted"]["by"], "message" in second) == ({}, "ada", False)
    assert list(Amendment.objects.order_by("seq").values_list("do", "of_seq", "principal")) == [
        ("edit", 1, "user:1"), ("delete", 2, "user:1"), ("react", 1, "user:2"), ("unreact", 1, "user:1"),
    ]  # fmt: skip
    assert refused(services.react, CHAT, two.id, "x", actor=BOB) == "MESSAGE_NOT_FOUND"
    assert not AuditEntry.objects.exists()
