"""The rules that a process goes by while grants change beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from bus.auth.permissions import table
from bus.models import Grant

pytestmark = pytest.mark.django_db(transaction=True)


def patterns() -> set[str]:
    """The patterns of the rules as who asks now goes by them."""
    return {rule.pattern for rule in table().rules()}


def elsewhere() -> set[str]:
    """As `patterns`, asked in another thread, with a connection of its own."""

    def ask() -> set[str]:
        try:
            return patterns()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(ask).result(timeout=20)


def allow(pattern: str) -> Grant:
    return Grant.objects.create(subject="everyone", action="join", pattern=pattern)


def test_a_grant_holds_for_all_from_its_commit_and_for_its_transaction_before() -> None:
    assert "team:*" not in patterns() | elsewhere()
    with transaction.atomic():
        grant = allow("team:*")
        assert "team:*" not in elsewhere(), "and that is not what it goes by later"
        assert "team:*" in patterns()
    assert "team:*" in elsewhere() & patterns()
    with transaction.atomic():
        grant.delete()
        assert "team:*" in elsewhere()
        assert "team:*" not in patterns()
    assert "team:*" not in elsewhere() | patterns()


def test_a_grant_that_was_rolled_back_never_held() -> None:
    with transaction.atomic():
        with transaction.atomic():
            allow("team:*")
            assert "team:*" in patterns()
            transaction.set_rollback(True)
        assert "team:*" not in elsewhere() | patterns()
    assert "team:*" not in elsewhere() | patterns()


def test_who_asks_while_another_reads_the_rules_anew_waits_for_nobody_and_gets_no_old_ones() -> None:
    reading, go_on = threading.Event(), threading.Event()

    def slowly(execute: Callable[..., Any], *arguments: Any) -> Any:
        found = execute(*arguments)
        reading.set()
        assert go_on.wait(20)
        return found

    def read() -> set[str]:
        try:
            with connection.execute_wrapper(slowly):
                return patterns()
        finally:
            connection.close()

    patterns()
    table().forget()
    with ThreadPoolExecutor(1) as threads:
        try:
            reader = threads.submit(read)
            assert reading.wait(20)
            grant = allow("team:*")
            assert "team:*" in patterns()
            grant.delete()
            allow("crew:*")
        finally:
            go_on.set()
        reader.result(timeout=20)
    # What it had read is older, and does not take the place of what is newer.
    assert "crew:*" in patterns()
