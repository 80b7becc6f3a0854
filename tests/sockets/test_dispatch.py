"""The frames of a connection: each kind reaches its part, and each failure has its answer."""

from __future__ import annotations

import pytest
from django.apps import apps

from bus.node import Node
from bus.protocol.errors import SLOW
from bus.protocol.inbound import Inbound
from bus.sockets import dispatch
from bus.sockets.connection import Connection
from tests.harness.waiting import wait_for
from tests.sockets.conftest import Client, Connect

pytestmark = pytest.mark.django_db(transaction=True)


async def registered(connect: Connect, client_id: str) -> Client:
    client = connect()
    await client.connection.opened()
    await client.send(type="register", client_id=client_id, room="lab", channel="bench")
    return client


async def test_a_message_to_a_known_channel_is_published_without_waiting(connect: Connect) -> None:
    ada = await registered(connect, "ada-6")
    assert dispatch.begin(ada.connection, b'{"type":"event","id":"m1","message":"x","ack":true}') is None
    await wait_for(lambda: any(frame["type"] == "ack" for frame in ada.frames()), "the ack")


async def test_a_message_to_an_unknown_channel_waits_for_the_rest(connect: Connect) -> None:
    ada = await registered(connect, "ada-7")
    frame = b'{"type":"event","id":"m1","message":"x","ack":true,"room":"lab","channel":"new"}'
    inbound = dispatch.begin(ada.connection, frame)
    assert inbound is not None
    await dispatch.finish(ada.connection, inbound)
    await wait_for(lambda: any(frame["type"] == "ack" for frame in ada.frames()), "the ack")


async def test_a_first_frame_that_is_no_registration_registers_its_client(connect: Connect) -> None:
    ada = connect()
    await ada.connection.opened()
    await ada.send(type="command", id="c1", command="ping")
    assert ada.events()[:2] == ["welcome", "registered"]
    answer = next(frame for frame in ada.frames() if frame.get("request_id") == "c1")
    assert answer["status"] == "success"


async def test_a_second_registration_is_refused(connect: Connect) -> None:
    ada = await registered(connect, "ada-8")
    await ada.send(type="register", client_id="ada-9")
    assert ada.codes() == ["ALREADY_REGISTERED"]
    assert ada.connection.client.client_id == "ada-8"


async def test_a_command_that_fails_is_answered_as_a_command(connect: Connect) -> None:
    ada = await registered(connect, "ada-10")
    await ada.send(type="command", id="c1", command="no_such_command")
    answer = next(frame for frame in ada.frames() if frame.get("request_id") == "c1")
    assert (answer["status"], answer["error"]["code"]) == ("error", "UNKNOWN_COMMAND")


async def test_a_kind_that_no_app_serves_is_refused(connect: Connect) -> None:
    ada = await registered(connect, "ada-11")
    await dispatch.finish(ada.connection, Inbound("nothing_known", "nothing_known", id="x1"))
    assert ada.codes() == ["UNKNOWN_TYPE"]


async def test_a_fault_of_the_program_is_answered_and_the_connection_goes_on(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(connection: Connection, inbound: Inbound) -> None:
        raise ValueError("not foreseen")

    ada = await registered(connect, "ada-12")
    monkeypatch.setitem(apps.get_app_config("bus").kinds, "fails", fail)  # type: ignore[attr-defined]
    await dispatch.finish(ada.connection, Inbound("fails", "fails", id="x1"))
    assert ada.codes() == ["INTERNAL_ERROR"]
    assert "not foreseen" in caplog.text
    await ada.send(type="command", id="c1", command="ping")
    assert any(frame.get("request_id") == "c1" for frame in ada.frames())


async def test_a_fault_in_the_middle_of_a_registration_closes_the_connection(
    node: Node, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that is half registered could not go on; it can come back."""

    def fail(*_: object) -> None:
        raise ValueError("not foreseen")

    ada = connect()
    await ada.connection.opened()
    monkeypatch.setattr(node.memberships, "add", fail)
    await ada.send(type="register", client_id="ada-13", room="lab")
    assert (ada.writer.code, ada.codes()) == (SLOW, ["INTERNAL_ERROR"])
    assert ada.state.name == "CLOSING"
    assert "not foreseen" in caplog.text
