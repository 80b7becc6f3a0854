"""The upgrade that adds the index of channels with a retention of their own, on a database in use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connection

from bus.models import Channel, Room

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "bus_channel_own_retention"
BEFORE, AFTER = "0009_handlers_decisions_amendments", "0010_own_retention_indexed"


def indexes() -> set[str]:
    with connection.cursor() as cursor:
        return set(connection.introspection.get_constraints(cursor, Channel._meta.db_table))


@pytest.fixture
def older() -> Iterator[None]:
    """A database as the version before made it."""
    call_command("migrate", "bus", BEFORE, verbosity=0)
    yield
    call_command("migrate", "bus", verbosity=0)


def test_a_database_of_the_version_before_gets_the_index(older: None) -> None:
    assert NAME not in indexes()
    Channel.objects.create(room=Room.objects.create(name="older"), name="kept", retention_count=5)
    call_command("migrate", "bus", AFTER, verbosity=0)
    assert NAME in indexes()
    assert Channel.objects.filter(retention_count__isnull=False).count() == 1


@pytest.mark.cluster
def test_an_interrupted_upgrade_is_tried_again(older: None) -> None:
    with connection.cursor() as cursor:
        # What is left of an index whose build was interrupted has the same name, and cannot be used.
        cursor.execute(f"CREATE INDEX {NAME} ON bus_channel (id)")
        cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [NAME])
    call_command("migrate", "bus", AFTER, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid, indpred IS NOT NULL FROM pg_index WHERE indexrelid = %s::regclass", [NAME])
        assert cursor.fetchall() == [(True, True)]
