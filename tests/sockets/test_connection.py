"""The life of a connection: opened, registered, closed once, and nothing of it left."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from bus.models import Client as ClientRow
from bus.node import Node
from bus.protocol.errors import RESTART, SLOW, TAKEN_OVER, TOO_MANY, BusError, Closing, ErrorCode
from bus.protocol.state import State
from tests.harness.waiting import wait_for
from tests.sockets.conftest import Connect

pytestmark = pytest.mark.django_db(transaction=True)


@sync_to_async
def connected(client_id: str) -> bool:
    """Whether the database has the client as connected."""
    return ClientRow.objects.filter(client_id=client_id).exclude(connection_id="").exists()


async def test_a_connection_is_welcomed_registered_and_forgotten(node: Node, connect: Connect) -> None:
    ada = connect()
    assert ada.state.name == "CONNECTING"
    await ada.connection.opened()
    assert ada.state.name == "CONNECTED"
    assert ada.events() == ["welcome"]
    await ada.send(type="register", client_id="ada-1", room="lab")
    assert ada.state.name == "REGISTERED"
    assert ada.events()[:2] == ["welcome", "registered"]
    assert await connected("ada-1")
    await ada.connection.closed(1000)
    assert ada.state.name == "CLOSED"
    assert "ada-1" not in node.clients.by_id
    assert not await connected("ada-1")


async def test_a_registration_in_the_url_needs_no_frame(connect: Connect) -> None:
    ada = connect(client_id="ada-2", room="lab")
    await ada.connection.opened()
    assert ada.events()[:2] == ["welcome", "registered"]


async def test_a_bad_registration_in_the_url_can_be_put_right(connect: Connect) -> None:
    ada = connect(client_id="no spaces", room="lab")
    await ada.connection.opened()
    assert len(ada.codes()) == 1
    assert not ada.writer.closed
    await ada.send(type="register", client_id="ada-3")
    assert ada.connection.client.registered


async def test_it_is_closed_once_with_the_first_reason(connect: Connect) -> None:
    ada = connect()
    await ada.connection.opened()
    ada.connection.close(SLOW, BusError(ErrorCode.TOO_SLOW))
    ada.connection.close(TOO_MANY, BusError(ErrorCode.RATE_LIMITED))
    ada.connection.client.drop(TAKEN_OVER, None)
    assert (ada.writer.code, ada.codes()) == (SLOW, ["TOO_SLOW"])
    assert ada.connection.client.close_code == SLOW
    assert ada.state.name == "CLOSING"


async def test_a_slow_reader_is_closed_after_the_turn_in_which_that_was_found(connect: Connect) -> None:
    ada = connect()
    await ada.connection.opened()
    ada.writer.on_overflow()
    assert not ada.writer.closed
    await wait_for(lambda: ada.writer.closed, "the end of the turn")
    assert (ada.writer.code, ada.codes()) == (SLOW, ["TOO_SLOW"])


async def test_a_connection_that_ends_while_it_registers_leaves_nothing(
    node: Node, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    work = node.presence_tables._work

    def held_up(operations: Any) -> list[Any]:
        """The database's work, which waits until the test goes on."""
        assert go_on.wait(30)
        return work(operations)

    monkeypatch.setattr(node.presence_tables, "_work", held_up)
    ada = connect()
    await ada.connection.opened()
    registering = asyncio.ensure_future(ada.send(type="register", client_id="ada-4", room="lab"))
    await wait_for(lambda: ada.state is State.CLAIMING, "the claim is under way")
    ada.connection.close(TOO_MANY, BusError(ErrorCode.RATE_LIMITED))
    go_on.set()
    await registering
    assert "registered" not in ada.events()
    assert ada.codes() == ["RATE_LIMITED"]
    assert not ada.connection.client.known
    await ada.connection.closed(1006)
    assert "ada-4" not in node.clients.by_id
    assert not await connected("ada-4")


async def test_a_newer_connection_takes_the_id_over(node: Node, connect: Connect) -> None:
    old, new = connect(), connect()
    await old.connection.opened()
    await old.send(type="register", client_id="ada-5", room="lab")
    token = next(frame for frame in old.frames() if frame["payload"].get("resume_token"))["payload"]["resume_token"]
    await new.connection.opened()
    await new.send(type="register", client_id="ada-5", room="lab", resume={"token": token, "positions": {}})
    assert (old.writer.code, old.state) == (TAKEN_OVER, State.CLOSING)
    assert node.clients.by_id["ada-5"] is new.connection.client
    await old.connection.closed(TAKEN_OVER)
    assert node.clients.by_id["ada-5"] is new.connection.client
    assert await connected("ada-5")


async def test_a_process_that_ends_admits_nobody(node: Node, connect: Connect) -> None:
    ada = connect()
    node.traffic.draining = True
    try:
        with pytest.raises(Closing) as caught:
            await ada.connection.opened()
    finally:
        node.traffic.draining = False
    assert (caught.value.close_code, caught.value.error.code) == (RESTART, ErrorCode.RESTARTING)
