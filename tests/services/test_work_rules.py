"""The rule of a work channel: what it may be, and when it may go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from bus.auth.permissions import SYSTEM
from bus.directory.channels import find
from bus.models import Channel, Job
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import Address
from bus.services.channels import create_channel, update_channel

pytestmark = pytest.mark.django_db


def made(room: str, **rule: Any) -> Channel:
    return create_channel(SYSTEM, Address(room, "jobs"), work=rule, door="test")


def test_a_rule_is_kept_whole_and_its_channel_for_dead_jobs_is_made(fresh_room: str, settings: Settings) -> None:
    channel = made(fresh_room, attempts=2, dead=f"{fresh_room}:dead")
    kept = {"lease": 30.0, "attempts": 2, "hold": 3600.0, "dead": f"{fresh_room}:dead"}
    assert channel.work == channel.public_metadata()["work"] == kept
    assert find(Address(fresh_room, "dead")) is not None
    ref = find(channel.address)
    assert ref is not None
    assert ref.work is not None
    assert ref.work.attempts == 2
    settings.ARQONBUS = {"claim_hold": 100.0}
    longer = made(f"{fresh_room}-2", lease=300).work
    assert longer is not None
    assert longer["hold"] == 300


@pytest.mark.parametrize(
    "rule",
    [
        {"lease": 0},
        {"lease": "soon"},
        {"lease": 60, "hold": 30},
        {"attempts": 0},
        {"attempts": 1001},
        {"hold": 1e9},
        {"dead": "nowhere"},
        {"dead": "a:*"},
        {"dead": "pm:somebody"},
        {"dead": "ROOM:jobs"},
        {"colour": "red"},
    ],
)
def test_another_rule_is_refused_and_makes_nothing(fresh_room: str, rule: dict[str, Any]) -> None:
    rule = {key: value.replace("ROOM", fresh_room) if isinstance(value, str) else value for key, value in rule.items()}
    with pytest.raises(BusError) as refused:
        made(fresh_room, **rule)
    assert (refused.value.code, refused.value.details[0]["field"]) == (ErrorCode.VALIDATION_ERROR, "work")
    assert find(Address(fresh_room, "jobs")) is None


def test_a_channel_that_stores_nothing_has_no_work(fresh_room: str) -> None:
    create_channel(SYSTEM, Address(fresh_room, "passing"), ephemeral=True, door="test")
    changes: tuple[Callable[[], Channel], ...] = (
        lambda: create_channel(SYSTEM, Address(fresh_room, "x"), ephemeral=True, work={}, door="test"),
        lambda: update_channel(SYSTEM, Address(fresh_room, "passing"), {"work": {}}, door="test"),
        lambda: made(fresh_room, dead=f"{fresh_room}:passing"),
        lambda: update_channel(SYSTEM, made(fresh_room).address, {"ephemeral": True}, door="test"),
    )
    for change in changes:
        with pytest.raises(BusError, match=r"ephemeral|stores"):
            change()


@pytest.mark.parametrize(("state", "goes"), [("ready", False), ("claimed", False), ("dead", True), ("done", True)])
def test_a_rule_goes_when_nothing_is_left_to_do(fresh_room: str, state: str, goes: bool) -> None:
    channel = made(fresh_room)
    Job.objects.create(channel=channel, seq=1, uid="arq_1", state=state)
    update_channel(SYSTEM, channel.address, {"work": {"lease": 5}}, door="test")
    if not goes:
        with pytest.raises(BusError, match="ready or claimed"):
            update_channel(SYSTEM, channel.address, {"work": None}, door="test")
        return
    assert update_channel(SYSTEM, channel.address, {"work": None}, door="test").work is None
