"""Connections break, servers are killed and restarted; an iterator sees every message once, in order."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import jwt
import pytest

import arqonbus
from arqonbus import Backoff, Message, Subscription, errors
from tests.clients_python.conftest import Connect
from tests.conftest import StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

WAIT = 30.0


def quick() -> Backoff:
    """Short pauses, for tests that break the line often."""
    return Backoff(first=0.02, most=0.2)


async def broken(bus: arqonbus.Bus) -> None:
    """Cut the line as a network does, and wait until the client is back."""
    before = bus.connections
    assert bus._link is not None
    bus._link.abort()
    await wait_for(lambda: bus.connections != before and bus.connected, "the client is back", deadline=WAIT)


class Traffic:
    """Publishers that go on whatever happens; what was acked is noted by address."""

    def __init__(self, buses: list[arqonbus.Bus], address: str, reader: str) -> None:
        self._buses = buses
        self._address = address
        self._reader = reader
        self._stopped = False
        self.acked: dict[str, list[str]] = {"channel": [], "room": [], "private": []}

    async def _publish(self, bus: arqonbus.Bus) -> None:
        room = self._address.partition(":")[0]
        number = 0
        while not self._stopped:
            number += 1
            if number % 5 == 0:
                receipt, kind = await bus.publish(room, {"n": number}), "room"
            elif number % 7 == 0:
                receipt, kind = await bus.private(self._reader, {"n": number}), "private"
            else:
                receipt, kind = await bus.publish(self._address, {"n": number}), "channel"
            self.acked[kind].append(receipt.id)

    async def grow(self, by: int) -> None:
        """Wait until so many more were acked."""
        wanted = sum(map(len, self.acked.values())) + by
        await wait_for(lambda: sum(map(len, self.acked.values())) >= wanted, f"{by} more acks", deadline=WAIT)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish until the block ends and all of it is acked."""
        async with asyncio.TaskGroup() as group:
            for bus in self._buses:
                group.create_task(self._publish(bus))
            yield
            self._stopped = True


async def read_until(subscription: Subscription, last: str, into: list[Message], logs: int = 1) -> None:
    """Take messages until the one with this text has come in each of so many logs, which have no common order."""
    while logs:
        message = await subscription.get(WAIT)
        if message.text == last:
            logs -= 1
        else:
            into.append(message)


@pytest.mark.parametrize("graceful", [False, True], ids=["killed", "graceful"])
async def test_every_message_comes_once_over_a_restart_of_the_server(
    start_server: StartServer, client: Connect, fresh_room: str, graceful: bool
) -> None:
    server = start_server(env={"ARQONBUS_RETRY_SPREAD": "0.2"})
    address = f"{fresh_room}:talk"
    reader = await client(server, client_id="reader", backoff=quick())
    publishers = [await client(server, backoff=quick()) for _ in range(3)]
    in_channel, in_private = reader.subscribe(address), reader.inbox()
    async with in_channel, in_private:
        traffic = Traffic(publishers, address, "reader")
        seen: list[Message] = []
        private: list[Message] = []
        reading = asyncio.gather(read_until(in_channel, "end", seen, logs=2), read_until(in_private, "end", private))
        async with traffic.running():
            await traffic.grow(40)
            await asyncio.to_thread(server.restart, graceful=graceful)
            await traffic.grow(40)
        await publishers[0].publish(address, "end")
        await publishers[0].publish(fresh_room, "end")
        await publishers[0].private("reader", "end")
        await reading
    assert reader.connections == 2
    by_kind = {
        "channel": [m.id for m in seen if m.channel == "talk"],
        "room": [m.id for m in seen if m.channel == "*"],
        "private": [m.id for m in private],
    }
    for kind, acked in traffic.acked.items():
        assert Counter(by_kind[kind]) == Counter(acked), kind
    assert [m.seq for m in seen if m.channel == "talk"] == list(range(1, len(traffic.acked["channel"]) + 1))
    assert [m.seq for m in seen if m.channel == "*"] == list(range(1, len(traffic.acked["room"]) + 1))
    assert in_channel.gaps == in_private.gaps == 0
    assert not any(m.after_gap for m in seen + private)


async def test_a_line_that_breaks_again_and_again_loses_and_doubles_nothing(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    reader = await client(client_id=f"reader-{fresh_room}", backoff=quick())
    publishers = [await client(backoff=quick()) for _ in range(2)]
    in_channel, in_private = reader.subscribe(address), reader.inbox()
    async with in_channel, in_private:
        traffic = Traffic(publishers, address, reader.client_id)
        seen: list[Message] = []
        private: list[Message] = []
        reading = asyncio.gather(read_until(in_channel, "end", seen), read_until(in_private, "end", private))
        async with traffic.running():
            for victim in (reader, publishers[0], reader, publishers[1], reader, reader):
                await traffic.grow(15)
                await broken(victim)
        await publishers[0].publish(address, "end")
        await publishers[0].private(reader.client_id, "end")
        await reading
    assert reader.connections == 5
    got = Counter(m.id for m in seen + private)
    assert got == Counter(traffic.acked["channel"] + traffic.acked["room"] + traffic.acked["private"])
    assert [m.seq for m in seen if m.channel == "talk"] == list(range(1, len(traffic.acked["channel"]) + 1))


async def test_a_slow_reader_with_a_small_buffer_gets_all_of_it(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    writer, reader = await client(), await client()
    async with reader.subscribe(address, buffer=10) as slow, reader.subscribe(address) as fast:
        await asyncio.gather(*(writer.publish(address, {"n": n}) for n in range(700)))
        assert [(await fast.get(WAIT)).seq for _ in range(700)] == list(range(1, 701))
        assert slow.waiting <= 10
        assert [(await slow.get(WAIT)).seq for _ in range(700)] == list(range(1, 701))
        await writer.publish(address, "live again")
        assert (await slow.get(WAIT)).text == "live again"
        assert slow.gaps == 0


async def test_what_the_log_no_longer_has_is_told_once(client: Connect, fresh_room: str, admin_token: str) -> None:
    address = f"{fresh_room}:talk"
    admin = await client(token=admin_token)
    async with admin.subscribe(address, since=arqonbus.Position(3, "another-epoch"), echo=True) as messages:
        await admin.publish(address, "one")
        await admin.publish(address, "two")
        first, second = await messages.get(WAIT), await messages.get(WAIT)
    assert (first.text, first.after_gap, second.text, second.after_gap) == ("one", True, "two", False)
    assert messages.gaps == 1


async def test_memberships_without_an_iterator_come_back_too(client: Connect, fresh_room: str) -> None:
    bus, watcher = await client(backoff=quick()), await client()
    await bus.join(f"{fresh_room}:talk")
    await broken(bus)
    await bus.ping()
    members = (await watcher.channel_info(f"{fresh_room}:talk"))["participants"]
    assert [member["client_id"] for member in members] == [bus.client_id]


@pytest.mark.embedded
async def test_states_are_told_and_a_publish_waits_for_the_server(
    start_server: StartServer, client: Connect, fresh_room: str
) -> None:
    server = start_server()
    states: list[arqonbus.State] = []
    bus = await client(server, backoff=quick(), on_state=states.append)
    await asyncio.to_thread(server.kill)
    waiting = asyncio.ensure_future(bus.publish(f"{fresh_room}:talk", "patience", id="arq_patience"))
    with pytest.raises(TimeoutError):
        await bus.publish(f"{fresh_room}:talk", "haste", timeout=0.05)
    await asyncio.to_thread(server.start)
    receipt = await asyncio.wait_for(waiting, WAIT)
    assert (receipt.id, receipt.duplicate) == ("arq_patience", False)
    assert [m.text async for m in bus.history(f"{fresh_room}:talk") if m.id == "arq_patience"] == ["patience"]
    await bus.close()
    connected, again, closed = arqonbus.State.CONNECTED, arqonbus.State.RECONNECTING, arqonbus.State.CLOSED
    assert states == [connected, again, connected, closed]


@pytest.mark.embedded
async def test_a_command_that_must_not_be_repeated_says_that_its_outcome_is_unknown(
    start_server: StartServer, client: Connect, fresh_room: str
) -> None:
    server = start_server()
    bus = await client(server, token=server.create_token("boss", admin=True), reconnect=True, backoff=quick())
    server.freeze()
    asking = asyncio.ensure_future(bus.create_channel(f"{fresh_room}:made"))
    waiting = bus._requests._waiting
    await wait_for(lambda: any(pending.sent for pending in waiting.values()), "the command is sent", deadline=WAIT)
    server.kill()
    with pytest.raises(arqonbus.ConnectionLost, match="before the answer"):
        await asyncio.wait_for(asking, WAIT)


@pytest.mark.embedded
async def test_giving_up_is_told_to_iterators_and_calls(start_server: StartServer, client: Connect) -> None:
    server = start_server()
    bus = await client(server, backoff=quick(), give_up_after=0.3)
    reading = asyncio.ensure_future(bus.subscribe("science:explore").__anext__())
    await bus.ping()
    await asyncio.to_thread(server.kill)
    with pytest.raises(arqonbus.ConnectionFailed, match="cannot be reached"):
        await asyncio.wait_for(reading, WAIT)
    with pytest.raises(arqonbus.ConnectionFailed):
        await bus.publish("science:explore", "x")
    assert bus.state is arqonbus.State.CLOSED


@pytest.mark.embedded
async def test_a_client_may_wait_for_a_server_that_is_not_there_yet(start_server: StartServer) -> None:
    server = start_server()
    await asyncio.to_thread(server.kill)
    opening = asyncio.ensure_future(arqonbus.connect(server.url, wait=WAIT, backoff=quick()).__aenter__())
    await asyncio.to_thread(server.start)
    bus = await asyncio.wait_for(opening, WAIT)
    assert (await bus.ping())["pong"]
    await bus.close()


@pytest.mark.embedded
async def test_an_access_that_is_withdrawn_ends_the_connection_for_good(
    shared_server: BusServer, client: Connect
) -> None:
    name = f"leaver-{secrets.token_hex(4)}"
    bus = await client(token=shared_server.create_token(name), backoff=quick())
    reading = asyncio.ensure_future(bus.subscribe("science:explore").__anext__())
    await bus.ping()
    shared_server.manage(
        "shell", "--command", f"from bus.models import AccessToken; AccessToken.objects.get(name='{name}').delete()"
    )
    assert bus._link is not None
    bus._link.abort()
    with pytest.raises(arqonbus.ClosedByServer) as caught:
        await asyncio.wait_for(reading, WAIT)
    assert caught.value.close_code == 4401
    assert isinstance(caught.value.error, errors.Unauthenticated)


async def test_a_token_that_expires_is_replaced_by_the_function_that_gives_it(
    start_server: StartServer, fresh_room: str
) -> None:
    key = "k" * 40
    server = start_server(env={"ARQONBUS_JWT_KEY": key, "ARQONBUS_JWT_LEEWAY": "0", "ARQONBUS_ANONYMOUS": "0"})
    given: list[str] = []

    async def token() -> str:
        # The first one ends in a moment, the following ones in an hour.
        life = timedelta(hours=1) if given else timedelta(seconds=2)
        given.append(jwt.encode({"sub": "robot", "exp": datetime.now(UTC) + life}, key, algorithm="HS256"))
        return given[-1]

    address = f"{fresh_room}:news"
    async with (
        arqonbus.connect(server.url, token=token, client_id="robot-1") as bus,
        bus.subscribe(address, echo=True) as messages,
    ):
        await bus.publish(address, "before")
        assert (await messages.get(WAIT)).text == "before"
        async with asyncio.timeout(WAIT):
            while bus.connections < 2:
                await bus.ping()
        await bus.publish(address, "after")
        assert (await messages.get(WAIT)).text == "after"
    assert len(given) == 2

    def away() -> str:
        raise LookupError("the key service is away")

    with pytest.raises(arqonbus.ConnectionFailed, match="the key service is away"):
        await arqonbus.connect(server.url, token=away)
    with pytest.raises(arqonbus.ClosedByServer, match="UNAUTHENTICATED"):
        await arqonbus.connect(server.url, token=lambda: "wrong")


async def test_who_was_in_many_rooms_comes_back_with_the_places_of_those_that_it_is_in(
    client: Connect, start_server: StartServer, fresh_room: str
) -> None:
    """The server takes two places for each membership that one may have, and no registration with more."""
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_MEMBERSHIPS": "2"})
    bus = await client(server)
    for number in range(6):
        async with bus.subscribe(f"{fresh_room}-{number}:talk"):
            pass
    async with bus.subscribe(f"{fresh_room}:talk") as messages:
        assert len(bus._heard.by_address) == 1, "nothing stays of the others"
        await broken(bus)
        other = await client(server)
        await other.publish(fresh_room, "to the room")
        assert (await messages.get(WAIT)).text == "to the room"
