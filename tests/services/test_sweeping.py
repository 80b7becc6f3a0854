"""What is forgotten with time, and what is not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from bus.models import Channel, Client, Message, Node
from bus.services import send_private
from bus.services.sweeping import sweep_clients, sweep_inboxes

pytestmark = pytest.mark.django_db


def gone(name: str, hours: float, **fields: object) -> Client:
    """A client that went some hours ago, and got a letter."""
    client = Client.objects.create(
        client_id=name, disconnected_at=timezone.now() - timedelta(hours=hours), **{"node": None, **fields}
    )
    send_private(name, message="psst")
    return client


def test_a_stranger_who_can_no_longer_prove_who_it_was_is_forgotten_with_its_letters(settings: Settings) -> None:
    settings.ARQONBUS = {"resume_window": 3600.0}
    gone("long-gone", 2)
    gone("gone", 0.5)
    gone("somebody", 2, principal="user:3")
    gone("here", 2, node=Node.objects.create(id="n1", host="here", pid=1, version="1"))
    assert sweep_clients() == 1
    assert sweep_clients() == 0
    left = {"gone", "somebody", "here"}
    assert set(Client.objects.values_list("client_id", flat=True)) == left
    assert set(Channel.objects.filter(kind=Channel.Kind.INBOX).values_list("name", flat=True)) == left
    assert set(Message.objects.values_list("channel__name", flat=True)) == left


def test_an_inbox_goes_when_its_client_is_gone_for_good_and_not_before() -> None:
    gone("somebody", 2, principal="user:3")
    gone("made-up", 2, generated=True).delete()
    assert sweep_inboxes(300) == 0, "somebody wrote to it just now"
    Channel.objects.update(
        touched_at=timezone.now() - timedelta(hours=1), created_at=timezone.now() - timedelta(hours=1)
    )
    assert sweep_inboxes(300) == 1
    assert list(Channel.objects.filter(kind=Channel.Kind.INBOX).values_list("name", flat=True)) == ["somebody"]
