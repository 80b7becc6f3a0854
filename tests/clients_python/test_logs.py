"""A log that is set anew: who comes back to another one, or to less than there was, hears all that comes, and of the hole.

Channels go away on a real server, at an admin's hand while the client is cut off, and come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import pytest

import arqonbus
from arqonbus import Backoff, Subscription, errors
from tests.clients_python.conftest import Connect
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

WAIT = 20.0


@pytest.fixture
def address() -> str:
    """A channel that no other test uses."""
    return f"room-{secrets.token_hex(6)}:talk"


class Away:
    """A client that is cut off and not let back in, until the block ends: its attempts to come back wait."""

    def __init__(self, bus: arqonbus.Bus) -> None:
        self._bus = bus
        self._back = asyncio.Event()
        self._connections = bus.connections

    async def __aenter__(self) -> None:
        dial = self._bus._connect_once

        async def late(lost_at: float) -> object:
            await self._back.wait()
            return await dial(lost_at)

        self._bus._connect_once = late  # type: ignore[method-assign,assignment]
        assert self._bus._link is not None
        self._bus._link.abort()
        await wait_for(lambda: not self._bus.connected, "it is away", deadline=WAIT)

    async def __aexit__(self, *_: object) -> None:
        self._back.set()
        await wait_for(lambda: self._bus.connections > self._connections, "it is back", deadline=WAIT)


async def delete(admin: arqonbus.Bus, server: BusServer, address: str, token: str, *, whole_room: bool = False) -> None:
    """Remove a channel once nobody is in it, or its room with all of its logs."""
    if not whole_room:

        async def deleted() -> bool:
            try:
                await admin.delete_channel(address)
            except errors.ChannelNotEmpty:
                return False
            return True

        await wait_for(deleted, f"{address} is deleted", deadline=WAIT)
        return
    headers, path = {"Authorization": f"Bearer {token}"}, f"/api/v1/rooms/{address.partition(':')[0]}"

    async def gone() -> bool:
        return (await asyncio.to_thread(server.request, "DELETE", path, None, headers))[0] == 204

    await wait_for(gone, f"the room of {address} is deleted", deadline=WAIT)


async def texts(subscription: Subscription, number: int) -> list[tuple[str, bool]]:
    """The next messages, each with whether something before it is lost."""
    return [(m.text, m.after_gap) for m in [await subscription.get(WAIT) for _ in range(number)]]


@pytest.mark.parametrize("whole_room", [False, True], ids=["channel", "room"])
async def test_who_comes_back_to_a_channel_that_was_made_anew_hears_all_of_it(
    shared_server: BusServer, client: Connect, address: str, admin_token: str, whole_room: bool
) -> None:
    admin = await client(token=admin_token)
    writer = await client()
    reader = await client(backoff=Backoff(first=0.02, most=0.1))
    first, second = reader.subscribe(address), reader.subscribe(address)
    async with first, second:
        for n in range(5):
            await writer.publish(address, f"old {n}")
        assert await texts(first, 5) == await texts(second, 5) == [(f"old {n}", False) for n in range(5)]
        old = first.position
        async with Away(reader):
            await delete(admin, shared_server, address, admin_token, whole_room=whole_room)
            assert (await writer.publish(address, "new 0")).seq == 1
        await wait_for(lambda: address in reader._memberships.members, "it has joined again", deadline=WAIT)
        await writer.publish(address, "new 1")
        for subscription in (first, second):
            assert await texts(subscription, 2) == [("new 0", True), ("new 1", False)]
            # The whole room: its own log is another one, too.
            assert subscription.gaps == (2 if whole_room else 1)
        assert first.position is not None
        assert old is not None
        assert (first.position.seq, first.position.epoch != old.epoch) == (2, True)


async def test_a_rooms_own_log_that_was_made_anew_is_heard_from_its_beginning(
    shared_server: BusServer, client: Connect, address: str, admin_token: str
) -> None:
    admin = await client(token=admin_token)
    room = address.partition(":")[0]
    writer, reader = await client(), await client(backoff=Backoff(first=0.02, most=0.1))
    async with reader.subscribe(address) as messages:
        for n in range(3):
            await writer.publish(room, f"old {n}")
        assert await texts(messages, 3) == [(f"old {n}", False) for n in range(3)]
        async with Away(reader):
            await delete(admin, shared_server, address, admin_token, whole_room=True)
        await wait_for(lambda: address in reader._memberships.members, "it has joined again", deadline=WAIT)
        assert (await writer.publish(room, "new 0")).seq == 1
        message = await messages.get(WAIT)
        assert (message.text, message.after_gap) == ("new 0", True)


async def test_a_rooms_messages_that_nobody_was_there_for_are_a_hole_that_is_told(
    shared_server: BusServer, client: Connect, address: str, admin_token: str
) -> None:
    admin = await client(token=admin_token)
    """The channel went, and with it the client's place in the room, whose own log went on."""
    room = address.partition(":")[0]
    writer, reader = await client(), await client(backoff=Backoff(first=0.02, most=0.1))
    async with reader.subscribe(address) as messages:
        await writer.publish(room, "before")
        assert await texts(messages, 1) == [("before", False)]
        async with Away(reader):
            await delete(admin, shared_server, address, admin_token)
            await writer.publish(room, "while it was nowhere")
        await wait_for(lambda: address in reader._memberships.members, "it has joined again", deadline=WAIT)
        await writer.publish(room, "after")
        assert await texts(messages, 1) == [("after", True)]


async def test_a_subscription_that_ended_by_an_error_joins_nothing_again(
    shared_server: BusServer, client: Connect, address: str
) -> None:
    reader, writer = await client(backoff=Backoff(first=0.02, most=0.1)), await client()
    messages = await reader.subscribe(address)
    room, _, channel = address.partition(":")
    code = f"from bus.models import Channel; Channel.objects.filter(room__name={room!r}, name={channel!r}).delete()"
    await asyncio.to_thread(shared_server.manage, "shell", "--verbosity", "0", "--command", code)
    # Either this message finds that the channel is gone, or the server's look every 15 s has found it. Then this makes it anew.
    with contextlib.suppress(errors.ChannelNotFound):
        await writer.publish(address, "not for the reader")
    with pytest.raises(errors.ChannelNotFound, match="was deleted"):
        await messages.get(WAIT)
    # The application still holds the iterator.
    async with Away(reader):
        pass
    await reader.ping()
    await reader.ping()
    with contextlib.suppress(errors.NotFound):
        assert (await writer.channel_info(address))["participant_count"] == 0
    with pytest.raises(errors.ChannelNotFound):
        await messages.get(WAIT)
    # One that is asked for anew is another one.
    async with reader.subscribe(address) as again:
        await writer.publish(address, "hello")
        assert await texts(again, 1) == [("hello", False)]


async def test_who_may_not_come_back_is_told_and_tries_no_more(
    shared_server: BusServer, client: Connect, address: str, admin_token: str
) -> None:
    kind = f"kind-{secrets.token_hex(4)}"
    reader = await client(backoff=Backoff(first=0.02, most=0.1), client_type=kind)
    messages = await reader.subscribe(address)
    ban = {"subject": "client_type", "subject_name": kind, "action": "join", "pattern": address, "allow": False}
    headers = {"Authorization": f"Bearer {admin_token}"}
    async with Away(reader):
        status, body = await asyncio.to_thread(shared_server.request, "POST", "/api/v1/grants", ban, headers)
        assert status == 201, body
    with pytest.raises(errors.Forbidden):
        await messages.get(WAIT)
    assert address not in reader._memberships.wanted()
    assert address not in reader._heard.logs


async def test_leaving_ends_the_subscriptions_of_the_channel(client: Connect, address: str) -> None:
    bus = await client()
    messages = await bus.subscribe(address)
    await bus.leave(address)
    with pytest.raises(arqonbus.BusClosed):
        await messages.get(WAIT)
