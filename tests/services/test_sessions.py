"""Sessions that end beside the bus."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from bus.models import AccessChange


@pytest.mark.django_db
def test_a_session_that_is_deleted_is_looked_at_and_the_sweep_of_expired_ones_is_not() -> None:
    sam = get_user_model().objects.create_user("sam")
    for _ in range(2):
        Client().force_login(sam)
    expired, current = Session.objects.all()
    Session.objects.filter(pk=expired.pk).update(expire_date=timezone.now() - timedelta(seconds=1))
    AccessChange.objects.all().delete()
    # Its connections ended by the clock; a month's sessions in one go would send a notification each.
    call_command("clearsessions")
    assert list(Session.objects.all()) == [current]
    assert not AccessChange.objects.exists()
    current.delete()
    assert AccessChange.objects.get().subject.startswith("session:")
