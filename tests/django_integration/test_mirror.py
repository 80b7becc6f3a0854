"""`@mirror(Model, channel=…)`: what happens to rows is told after the commit, and never otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.core import serializers
from django.db import transaction

from bus.mirror import Mirror, mirror
from bus.models import Client
from bus.protocol.errors import BusError
from bus.testing import LiveBus, assert_published

pytestmark = pytest.mark.django_db

ADDRESS = "people:groups"


@pytest.fixture
def groups() -> Iterator[Mirror[Group]]:
    """Groups on the bus, except hidden ones."""

    @mirror(Group, channel=ADDRESS)
    def group_on_the_bus(group: Group) -> dict[str, Any] | None:
        """A group's public values."""
        return None if group.name.startswith("hidden") else {"name": group.name}

    yield group_on_the_bus
    group_on_the_bus.disconnect()


def events(messages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """What was told, in short."""
    return [(message["payload"]["event"], message["payload"]["data"]) for message in messages]


def test_creations_updates_and_deletions_are_told_in_their_order(groups: Mirror[Group]) -> None:
    with assert_published(ADDRESS, type="model") as messages:
        group = Group.objects.create(name="writers")
        pk = group.pk
        group.name = "authors"
        group.save(update_fields=["name"])
        group.delete()
        Group.objects.create(name="hidden ones").delete()
    assert events(messages) == [
        ("created", {"name": "writers"}),
        ("updated", {"name": "authors"}),
        ("deleted", {"name": "authors"}),
    ]
    assert {(message["payload"]["model"], message["payload"]["pk"]) for message in messages} == {("auth.group", pk)}
    assert [message["payload"].get("changed") for message in messages] == [None, ["name"], None]


def test_a_row_whose_reader_was_never_here_is_saved_and_told_to_nobody() -> None:
    @mirror(Group, channel=lambda group: f"pm:{group.name}")
    def letter(group: Group) -> dict[str, Any]:
        """A group, to the client of its name."""
        return {"name": group.name}

    try:
        Client.objects.create(client_id="ada")
        with assert_published("pm:ada", count=1):
            ada = Group.objects.create(name="ada")
            nobody = Group.objects.create(name="nobody")
        assert letter.publish(nobody, "updated") is None
        assert letter.publish(ada, "updated") is not None
    finally:
        letter.disconnect()


async def test_subscribers_hear_of_it_after_the_commit_and_not_after_a_rollback(
    live_bus: LiveBus, groups: Mirror[Group]
) -> None:
    reader = await live_bus.connect("reader", room=ADDRESS)

    def changes(fail: bool) -> None:
        with transaction.atomic():
            Group.objects.create(name=f"group {fail}")
            transaction.set_rollback(fail)

    await sync_to_async(changes)(True)
    await sync_to_async(changes)(False)
    message = await reader.expect("model")
    assert events([message]) == [("created", {"name": "group False"})]
    assert message["seq"] == 1
    await reader.expect_nothing("model")


def test_the_channel_may_depend_on_the_row_and_events_may_be_chosen() -> None:
    @mirror(Group, channel=lambda group: f"teams:{group.name}", events=["created"])
    def describe(group: Group) -> dict[str, Any]:
        return {}

    try:
        with assert_published("teams:red", count=1):
            Group.objects.create(name="red").delete()
    finally:
        describe.disconnect()
    with pytest.raises(ValueError, match="unknown events"):
        mirror(Group, channel="x:y", events=["renamed"])


def test_bulk_changes_and_fixtures_are_not_told_but_can_be_by_hand(groups: Mirror[Group]) -> None:
    with assert_published(ADDRESS, count=0):
        Group.objects.bulk_create([Group(name="one"), Group(name="two")])
        Group.objects.update(name="x" * 3) if Group.objects.count() == 1 else None
        for row in serializers.deserialize("json", '[{"model": "auth.group", "pk": 99, "fields": {"name": "loaded"}}]'):
            row.save()
    with assert_published(ADDRESS, count=1) as messages:
        groups.publish(Group.objects.get(name="one"), "updated", changed=["name"])
        groups.publish(Group(name="hidden"), "updated")
    assert events(messages) == [("updated", {"name": "one"})]


def test_what_cannot_be_published_undoes_the_change() -> None:
    @mirror(Group, channel="no spaces:here")
    def describe(group: Group) -> dict[str, Any]:
        return {}

    try:
        with pytest.raises(BusError, match="INVALID_NAME"), transaction.atomic():
            Group.objects.create(name="lost")
    finally:
        describe.disconnect()
    assert not Group.objects.filter(name="lost").exists()
