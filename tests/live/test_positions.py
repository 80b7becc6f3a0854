"""A position and the rows of a page are of one moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction

from bus.live import position
from bus.models import Message
from bus.publishing.django import publish

pytestmark = pytest.mark.django_db(transaction=True)

ADDRESS = "page:rows"


def _publish_elsewhere() -> None:
    publish(ADDRESS, {"n": 2})
    connections.close_all()


def test_what_others_commit_meanwhile_is_seen_afterwards() -> None:
    publish(ADDRESS, {"n": 1})
    with ThreadPoolExecutor(1) as pool, position(ADDRESS) as at:
        pool.submit(_publish_elsewhere).result(30)
        with position(ADDRESS) as inside:
            assert (at.seq, inside) == (1, at)
        assert Message.objects.count() == 1
    with position(ADDRESS) as later:
        assert (later.epoch, later.seq, Message.objects.count()) == (at.epoch, 2, 2)


def test_in_an_open_transaction_the_error_says_what_to_do() -> None:
    with (
        transaction.atomic(),
        pytest.raises(transaction.TransactionManagementError, match="non_atomic_requests"),
        position(ADDRESS),
    ):
        raise AssertionError("there is no position")
    with position(ADDRESS) as at:
        assert (at.epoch, at.seq) == ("", 0)
