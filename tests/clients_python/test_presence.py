"""A client says what it does and what it can do, and others find it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arqonbus import errors, sync
from tests.clients_python.conftest import Connect
from tests.clients_python.test_recovery import broken
from tests.conftest import StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

WAIT = 20.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


async def test_a_status_and_a_card_are_found(client: Connect, fresh_room: str, shared_server: BusServer) -> None:
    skill, address = f"skill-{fresh_room}", f"{fresh_room}:office"
    ada = await client(client_id=f"ada-{fresh_room}", card={"name": "Ada", "skills": [skill]})
    other = await client()
    assert [row["client_id"] async for row in other.clients(skill=skill)] == [ada.client_id]
    async with other.subscribe(address, presence=True) as notices:
        await ada.join(address)
        said = await ada.set_status("working", task="pull request 7", tokens=12)
        seen: dict[str, Any] = {}
        while seen.get("status") is None:
            message = await notices.get(WAIT)
            if message.event == "client_updated":
                seen = message.payload
        assert (seen["status"]["status"], seen["status"]["task"], seen["status"]["tokens"]) == (
            "working",
            "pull request 7",
            12,
        )
        assert said == seen["status"]
        assert [row["client_id"] async for row in other.clients(skill=skill, status="working", channel=address)] == [
            ada.client_id
        ]

        def found() -> list[str]:
            with sync.connect(shared_server.url) as bus:
                looking = bus.set_status("looking", ttl=30)
                assert looking is not None
                assert looking["at"] < looking["until"]
                return [row["client_id"] for row in bus.clients(skill=skill, type="app")]

        assert await asyncio.to_thread(found) == [ada.client_id]
        await broken(ada)
        await wait_for(lambda: ada.connected, "it is back", deadline=WAIT)

        async def again() -> bool:
            return [row["client_id"] async for row in other.clients(skill=skill, status="working")] == [ada.client_id]

        await wait_for(again, "the status is there again", deadline=WAIT)
        assert await ada.set_status() is None
        assert [row async for row in other.clients(skill=skill, status="working")] == []
    with pytest.raises(errors.ValidationFailed):
        await ada.set_status("x" * 1000)


@pytest.mark.chaos
async def test_the_status_is_said_again_after_a_restart_of_the_server(
    start_server: StartServer, client: Connect
) -> None:
    server = start_server(env={"ARQONBUS_RETRY_SPREAD": "0.2"})
    bus, other = await client(server), await client(server)
    await bus.set_status("working")
    await asyncio.to_thread(server.restart)

    async def there() -> bool:
        return [row["client_id"] async for row in other.clients(status="working")] == [bus.client_id]

    await wait_for(there, "the status is there again", deadline=WAIT)
