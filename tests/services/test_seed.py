"""The rooms that are there by themselves: which they are, and what becomes of those that are so no longer."""

from __future__ import annotations

import pytest
from pytest_django.fixtures import Settings

from bus.auth.permissions import HISTORY, SYSTEM, Actor, can
from bus.models import Channel, Room
from bus.protocol.errors import BusError
from bus.protocol.names import Address
from bus.services import rooms, seed
from tests.conftest import Connect, StartServer

pytestmark = pytest.mark.django_db


def _protected() -> set[str]:
    return set(Room.objects.filter(hardcoded=True).values_list("name", flat=True)) - {"*", "pm"}


def test_the_ready_project_has_science_and_nobody_deletes_it() -> None:
    seed.release()
    seed.seed_hardcoded()
    assert _protected() == {"science", "integriguard"}
    with pytest.raises(BusError, match="built in"):
        rooms.delete_room(SYSTEM, "science", door="test")


def test_a_project_of_somebody_else_has_the_bus_s_own_room_only(settings: Settings) -> None:
    settings.ARQONBUS = {}
    seed.seed_hardcoded()
    assert _protected() == {"integriguard"}
    assert not Room.objects.filter(name="science").exists()


def test_science_of_a_project_that_does_not_want_it_can_be_deleted(settings: Settings) -> None:
    # As version 1.0 left it there.
    seed.seed_hardcoded(science=True)
    settings.ARQONBUS = {}
    seed.release()
    seed.seed_hardcoded()
    assert _protected() == {"integriguard"}
    rooms.delete_room(SYSTEM, "science", door="test")
    assert not Channel.objects.filter(room__name="science").exists()


def test_the_room_of_the_bus_itself_has_the_name_that_the_setting_gives_it(settings: Settings) -> None:
    seed.seed_hardcoded()
    settings.ARQONBUS = {"system_room": "watch"}
    settings.DEBUG = True
    seed.release()
    seed.seed_hardcoded()
    assert _protected() == {"watch"}
    assert Room.objects.get(name="watch").private
    # In development it is open to look at; the one of that name before is a private room like any other.
    for room, open_to_all in (("watch", True), ("integriguard", False)):
        assert can(Actor(), HISTORY, Address(room, "telemetry-stream"), private=True, rules=()) is open_to_all


@pytest.mark.embedded
async def test_a_server_tells_of_itself_in_that_room_and_puts_newcomers_into_the_default_channel(
    start_server: StartServer, wire: Connect
) -> None:
    server = start_server(
        env={
            "ARQONBUS_SYSTEM_ROOM": "watch",
            "ARQONBUS_DEFAULT_CHANNEL": "lobby:hello",
            "ARQONBUS_SCIENCE_ROOM": "0",
        }
    )
    watcher = await wire(server, client_id="watcher", room="watch:telemetry-stream")
    telemetry = await wire(server.telemetry_url or server.url + "telemetry/", register=False)
    welcome = await telemetry.expect(type="telemetry_connected")
    assert welcome["payload"]["stream"] == "watch:telemetry-stream"
    newcomer = await wire(server, client_id="newcomer")
    assert newcomer.registered["room"] == "lobby"
    assert newcomer.registered["channel"] == "hello"
    told = [await watcher.expect(eventType="client_connected", room="watch") for _ in range(2)]
    assert [frame["payload"]["client_id"] for frame in told] == ["watcher", "newcomer"]
    names = {row["channel"] for row in (await newcomer.command("list_channels"))["result"]["channels"]}
    assert not names & {"explore", "hypothesize"}
