"""A right that is withdrawn ends at once: the connection, or the membership."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import msgspec
import pytest
from django.db import OperationalError

from bus.auth import identity
from bus.auth.own import Identified
from bus.auth.permissions import SYSTEM, Actor
from bus.models import AccessToken
from bus.node import Node
from bus.protocol.errors import NOT_ALLOWED, UNIDENTIFIED, BusError
from bus.services import grants, rights, tokens
from bus.services.rooms import update_room
from tests.harness.waiting import wait_for
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


async def _identified(node: Node, name: str) -> NodeClient:
    """A registered client with an access token."""

    def make() -> Actor:
        _, secret = tokens.create(SYSTEM, name, door="command")
        return identity.from_token(secret)

    client = NodeClient(node, await node.runtime.run_writer(make))
    node.rights.identified(client.state)
    await client.register(name)
    return client


async def _deny(node: Node, log: Log, action: str, name: str) -> None:
    rule = {"subject": "token", "subject_name": name, "action": action, "pattern": str(log.ref.address), "allow": False}
    await node.runtime.run_writer(lambda: grants.create(SYSTEM, rule, door="command"))


async def test_a_deleted_token_ends_its_connections(node: Node) -> None:
    client, other = await _identified(node, "robot"), await _identified(node, "other")
    await node.runtime.run_writer(lambda: AccessToken.objects.get(name="robot").delete())
    await node.rights.catch_up()
    await wait_for(lambda: client.closed, "the end")
    assert client.closed is not None
    assert client.closed[0] in (UNIDENTIFIED, NOT_ALLOWED)
    assert other.closed is None


async def test_a_rule_that_forbids_a_channel_ends_its_memberships(node: Node, log: Log) -> None:
    client, other = await _identified(node, "robot"), await _identified(node, "other")
    for member in (client, other):
        await member.join(str(log.ref.address))
    await _deny(node, log, "join", "robot")
    await node.rights.look()
    assert (await client.event("unsubscribed"))["reason"] == "REVOKED"
    assert client.closed is None
    assert log.ref.id in other.state.memberships
    left = await other.frame(lambda frame: "client_left" in str(frame), "the notice")
    assert left["payload"]["client_id"] == "robot"


async def test_a_room_that_becomes_private_loses_its_anonymous_members(node: Node, log: Log) -> None:
    client = NodeClient(node)
    await client.register("alice")
    await client.join(str(log.ref.address))
    room = log.ref.address.room
    await node.runtime.run_writer(lambda: update_room(SYSTEM, room, {"private": True}, door="command"))
    await node.rights.catch_up()
    assert (await client.event("unsubscribed"))["reason"] == "REVOKED"


async def test_a_right_that_was_granted_a_moment_ago_counts(node: Node, log: Log) -> None:
    client = await _identified(node, "robot")
    room = log.ref.address.room
    await node.runtime.run_writer(lambda: update_room(SYSTEM, room, {"private": True}, door="command"))
    await node.rights.catch_up()
    with pytest.raises(BusError):
        await client.join(str(log.ref.address))
    rule = {"subject": "token", "subject_name": "robot", "action": "*", "pattern": f"{room}:*", "allow": True}
    await node.runtime.run_writer(lambda: grants.create(SYSTEM, rule, door="command"))
    await client.join(str(log.ref.address))
    assert log.ref.id in client.state.memberships


async def test_an_identity_that_expires_ends_its_connection(node: Node) -> None:
    client = NodeClient(node, Actor(principal="user:1", expires_at=time.time() - 1))
    node.rights.identified(client.state)
    await node.rights.look()
    assert client.closed == (UNIDENTIFIED, "UNAUTHENTICATED")


async def test_an_identity_that_was_read_before_the_change_is_read_again(node: Node) -> None:
    """The token is deleted between reading it and giving it to its connection."""
    first = await _identified(node, "robot")
    late = NodeClient(node, msgspec.structs.replace(first.state.actor))
    await node.runtime.run_writer(lambda: AccessToken.objects.get(name="robot").delete())
    await node.rights.catch_up()
    node.rights.identified(late.state)
    await wait_for(lambda: first.closed and late.closed, "both ends")


#: What :func:`identify` waits for, and what it says that it waits.
goes_on, asked = threading.Event(), threading.Event()


def identify(bearer: str) -> Identified:
    """A slow function of a project."""
    asked.set()
    goes_on.wait(20)
    return Identified(subject=bearer)


async def test_a_slow_function_of_the_project_holds_up_no_other_client(node: Node, settings: Any) -> None:
    settings.ARQONBUS = {"identify": f"{__name__}.identify"}
    client = NodeClient(node, Actor(principal="own:ann", credential="own:1", bearer="ann"))
    node.rights.identified(client.state)
    asked.clear()
    goes_on.clear()
    try:
        node.rights.changed(rights.EVERYONE)
        await wait_for(asked.is_set, "the function is asked")
        assert await asyncio.wait_for(node.runtime.run(AccessToken.objects.count), 15) == 0
        assert not goes_on.is_set()
    finally:
        goes_on.set()
    await node.rights.catch_up()
    assert client.closed is None


async def test_a_change_counts_once(node: Node) -> None:
    await node.runtime.run_writer(lambda: rights.changed("user:7"))
    await node.rights.catch_up()
    await node.rights.catch_up()
    latest = await node.runtime.run_writer(rights.latest)
    node.rights.changed("user:7", latest)
    assert not node.rights._subjects


async def test_a_fault_of_the_database_loses_no_change(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await _identified(node, "robot")
    await node.runtime.run_writer(lambda: AccessToken.objects.get(name="robot").delete())
    renewed, failures = identity.renewed, [OperationalError("the server closed the connection")]

    def fails_once(actors: list[Actor]) -> list[Actor | BusError]:
        if failures:
            raise failures.pop()
        return renewed(actors)

    monkeypatch.setattr(identity, "renewed", fails_once)
    await node.rights.catch_up()
    await wait_for(lambda: client.closed, "the end")
