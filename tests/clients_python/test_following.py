"""Follow a room, and begin with the last messages: each message once, also over reconnects and restarts."""

from __future__ import annotations

import asyncio

import pytest

import arqonbus
from arqonbus import Backoff, Message, errors, sync
from tests.clients_python.conftest import Connect
from tests.conftest import StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

WAIT = 20.0


async def _texts(messages: arqonbus.Subscription, number: int) -> list[str]:
    return [(await messages.get(WAIT)).text for _ in range(number)]


async def test_a_followed_room_brings_all_channels_and_those_to_come(
    shared_server: BusServer, client: Connect, fresh_room: str
) -> None:
    speaker, bus = await client(), await client()
    await speaker.publish(f"{fresh_room}:a", "past")
    async with bus.follow(fresh_room) as messages:
        assert "a" in messages.channels
        await speaker.publish(f"{fresh_room}:a", "one")
        await speaker.publish(f"{fresh_room}:b", "two")
        assert sorted(await _texts(messages, 2)) == ["one", "two"]
        await speaker.publish(fresh_room, "to all")
        message = await messages.get(WAIT)
        assert (message.text, message.channel) == ("to all", "*")
        positions = messages.positions
        assert {name: place.seq for name, place in positions.items()} == {"a": 2, "b": 1, "*": 1}
        async with bus.subscribe(f"{fresh_room}:a") as member:
            await speaker.publish(f"{fresh_room}:a", "three")
            assert await _texts(member, 1) == await _texts(messages, 1) == ["three"]
    await speaker.publish(f"{fresh_room}:b", "four")
    await bus.ping()
    async with bus.follow(fresh_room, since=positions) as messages:
        assert sorted(await _texts(messages, 2)) == ["four", "three"]
        async with bus.follow(fresh_room, since=positions) as second:
            assert sorted(await _texts(second, 2)) == ["four", "three"]
    with pytest.raises(ValueError, match="room"):
        bus.follow("a:b")


@pytest.mark.embedded
async def test_positions_have_every_channel_and_a_channel_that_came_later_begins_with_its_first_message(
    shared_server: BusServer, client: Connect, fresh_room: str
) -> None:
    speaker, bus = await client(), await client()

    async def say(*channels: str) -> None:
        for channel in channels:
            await speaker.publish(f"{fresh_room}:{channel}", f"to {channel}")

    async with bus.follow(fresh_room) as messages:
        empty = messages.positions
    await say("a", "b", "c")
    async with bus.follow(fresh_room, since=empty) as messages:
        assert sorted(await _texts(messages, 3)) == ["to a", "to b", "to c"]
    async with bus.follow(fresh_room) as messages:
        await say("a")
        assert await _texts(messages, 1) == ["to a"]
        positions = messages.positions
        assert {name: place.seq for name, place in positions.items() if name != "*"} == {"a": 2, "b": 1, "c": 1}
    await say("a", "b", "new")
    async with bus.follow(fresh_room, since=positions) as messages:
        assert sorted(await _texts(messages, 3)) == ["to a", "to b", "to new"]
        async with bus.follow(fresh_room, since=positions) as second:
            assert sorted(await _texts(second, 3)) == ["to a", "to b", "to new"]
            assert (messages.gaps, second.gaps) == (0, 0)


async def test_a_follower_goes_on_after_a_restart_while_another_process_makes_channels(
    start_server: StartServer, client: Connect, fresh_room: str
) -> None:
    server, other = start_server(), start_server()
    bus, speaker = await client(server, backoff=Backoff(first=0.02, most=0.2)), await client(other)
    got: list[Message] = []

    async def read() -> None:
        async with bus.follow(fresh_room, buffer=5) as messages:
            async for message in messages:
                got.append(message)
                await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    sent: list[str] = []

    async def write(part: str) -> None:
        for n in range(30):
            sent.append(f"{part}{n}")
            await speaker.publish(f"{fresh_room}:{part}{n % 3}", f"{part}{n}")

    await wait_for(lambda: fresh_room in bus._heard.by_room, "the room is followed")
    await write("before")
    server.kill()
    writing = asyncio.create_task(write("while"))
    server.restart()
    await writing
    await write("after")
    await wait_for(lambda: len(got) >= len(sent), "all messages came", deadline=30)
    reading.cancel()
    assert sorted(message.text for message in got) == sorted(sent)
    for channel in {message.channel for message in got}:
        seqs = [message.seq for message in got if message.channel == channel]
        assert seqs == list(range(1, 11))
    assert not any(message.after_gap for message in got)


@pytest.mark.embedded
async def test_a_slow_follower_loses_nothing(shared_server: BusServer, client: Connect, fresh_room: str) -> None:
    speaker, bus = await client(), await client()
    async with bus.follow(fresh_room, buffer=3) as messages:
        for n in range(40):
            await speaker.publish(f"{fresh_room}:c{n % 2}", str(n))
        await bus.ping()
        texts = await _texts(messages, 40)
    assert sorted(texts, key=int) == [str(n) for n in range(40)]
    assert messages.gaps == 0


async def test_a_subscription_begins_with_the_last_messages(
    shared_server: BusServer, client: Connect, fresh_room: str
) -> None:
    address = f"{fresh_room}:a"
    speaker, bus = await client(), await client()
    for n in range(5):
        await speaker.publish(address, str(n))
    async with bus.subscribe(address, last=3) as first:
        await speaker.publish(address, "5")
        assert await _texts(first, 4) == ["2", "3", "4", "5"]
        writing = asyncio.gather(*(speaker.publish(address, f"n{n}") for n in range(20)))
        async with bus.subscribe(address, last=2) as second:
            await writing
            seqs = [(await second.get(WAIT)).seq]
            while seqs[-1] != 26:
                seqs.append((await second.get(WAIT)).seq)
            assert seqs[0] is not None
            assert seqs == list(range(seqs[0], 27))
    with pytest.raises(ValueError, match="last"):
        bus.subscribe(address, since=0, last=3)
    with pytest.raises(errors.ValidationFailed):
        await bus.subscribe(address, last=101).open()


@pytest.mark.embedded
def test_the_blocking_client_follows(shared_server: BusServer, fresh_room: str) -> None:
    with sync.connect(shared_server.url) as speaker, sync.connect(shared_server.url) as bus:
        with bus.follow(fresh_room) as messages:
            speaker.publish(f"{fresh_room}:a", "one")
            assert messages.get(WAIT).text == "one"
            assert (messages.positions["a"].seq, messages.truncated, messages.gaps) == (1, False, 0)
            assert "a" in messages.channels
        with bus.subscribe(f"{fresh_room}:a", last=5) as again:
            assert again.get(WAIT).text == "one"
