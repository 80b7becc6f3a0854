"""Marks: a reader goes on where it was, in any process, and begins now where it never was."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import arqonbus
from arqonbus import Position, errors, sync
from arqonbus.bus import Bus
from tests.clients_python.conftest import Cli, Connect
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

WAIT = 20.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The seqs of all marks that clients send."""
    seqs: list[Any] = []
    command = Bus._command

    async def noting(self: Bus, name: str, parameters: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        if name == "mark" and parameters is not None:
            seqs.append(parameters["seq"])
        return await command(self, name, parameters, **options)

    monkeypatch.setattr(Bus, "_command", noting)
    return seqs


async def texts(messages: arqonbus.Subscription, number: int) -> list[str]:
    """The texts of the next messages."""
    return [(await messages.get(WAIT)).text for _ in range(number)]


async def test_a_reader_begins_now_and_then_at_its_mark(
    shared_server: BusServer, client: Connect, fresh_room: str, tmp_path: Path
) -> None:
    address = f"{fresh_room}:mail"
    speaker = await client()
    await speaker.publish(address, "of the past")
    identity = tmp_path / "reader.identity"
    async with await client(identity=identity) as bus:
        async with bus.subscribe(address, since="mark", auto_mark=True) as messages:
            for text in ("one", "two"):
                await speaker.publish(address, text)
            assert await texts(messages, 2) == ["one", "two"]

        async def failing() -> None:
            async with bus.subscribe(address, since="mark", auto_mark=True) as messages:
                await speaker.publish(address, "three")
                assert await texts(messages, 1) == ["three"]
                raise LookupError("it fails at the third")

        with pytest.raises(LookupError):
            await failing()
        assert bus.marks[address].seq == 3
    await speaker.publish(address, "four")
    async with await client(identity=identity) as bus:
        assert bus.marks[address].seq == 3, "the registration tells the marks"
        rows = await bus.list_channels(fresh_room)
        assert [row["unread"] for row in rows if row["channel"] == "mail"] == [2]
        async with bus.subscribe(address, since="mark") as messages:
            assert await texts(messages, 2) == ["three", "four"]


async def test_the_inbox_has_a_mark_and_none_of_the_past(client: Connect, fresh_room: str, tmp_path: Path) -> None:
    name, identity = f"agent-{fresh_room}", tmp_path / "agent.identity"
    speaker = await client()
    async with await client(client_id=name, identity=identity):
        await speaker.private(name, "of the past")
    async with await client(client_id=name, identity=identity) as bus:
        await speaker.private(name, "between the connection and the iterator")
        async with bus.inbox(since="mark", auto_mark=True) as inbox:
            await speaker.private(name, "now")
            assert await texts(inbox, 2) == ["between the connection and the iterator", "now"]
    for number in range(30):
        await speaker.private(name, str(number))
    async with await client(client_id=name, identity=identity) as bus, bus.inbox(since="mark", auto_mark=True) as inbox:
        assert await texts(inbox, 10) == [str(number) for number in range(10)]
    async with await client(client_id=name, identity=identity) as bus, bus.inbox(since="mark") as inbox:
        assert await texts(inbox, 20) == [str(number) for number in range(10, 30)]
        assert inbox.gaps == 0


async def test_the_marks_of_a_busy_reader_are_few(
    client: Connect, fresh_room: str, tmp_path: Path, marked: list[Any]
) -> None:
    address = f"{fresh_room}:mail"
    speaker, bus = await client(), await client(identity=tmp_path / "reader.identity")
    async with bus.subscribe(address, since="mark", auto_mark=True) as messages:
        await asyncio.gather(*(speaker.publish(address, str(number)) for number in range(300)))
        for _ in range(300):
            await messages.get(WAIT)
    assert bus.marks[address].seq == 300
    assert len(marked) < 150
    assert marked == sorted(marked)
    marked.clear()
    page = await bus.history_page(address, limit=300)
    with pytest.raises(RuntimeError, match="no place"):
        await page.messages[0].mark()
    async with bus.subscribe(address, since=0) as messages:
        those = [await messages.get(WAIT) for _ in range(300)]
    await asyncio.gather(*(message.mark() for message in those))
    assert len(marked) <= 2


async def test_a_mark_goes_forward_unless_it_is_told_back(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:mail"
    bus = await client()
    for text in ("one", "two", "three"):
        await bus.publish(address, text)
    assert (await bus.mark(address, 2))["unread"] == 1
    assert (await bus.mark(address, 1))["seq"] == 2
    assert (await bus.mark(address, 1, back=True))["unread"] == 2
    assert bus.marks[address].seq == 1
    with pytest.raises(errors.ValidationFailed, match="seq"):
        await bus.mark(address, 4)
    assert (await bus.mark(address, 3))["unread"] == 0, "a refused mark is forgotten"
    with pytest.raises(ValueError, match="0 or more"):
        await bus.mark(address, -1)
    async with bus.subscribe(address, since=Position(0), echo=True) as messages:
        first = await messages.get(WAIT)
    await bus.mark(address, 0, back=True)
    await first.mark()
    assert bus.marks[address].seq == 1


async def test_messages_that_the_reader_does_not_get_are_marked_too(client: Connect) -> None:
    bus = await client()
    address = f"pm:{bus.client_id}"
    async with bus.inbox(since="mark", auto_mark=True) as inbox:
        reading = asyncio.create_task(inbox.get(WAIT))
        for text in ("to myself", "and again"):
            await bus.private(bus.client_id, text)
        await wait_for(lambda: bus.marks[address].seq == 2, "its own messages are marked", deadline=WAIT)
        reading.cancel()
        await asyncio.wait({reading})


async def test_the_blocking_client_marks(shared_server: BusServer, fresh_room: str, tmp_path: Path) -> None:
    address = f"{fresh_room}:mail"

    def read() -> list[str]:
        with sync.connect(shared_server.url, identity=tmp_path / "reader.identity") as bus:
            with bus.subscribe(address, since="mark", auto_mark=True) as messages:
                with sync.connect(shared_server.url) as speaker:
                    for text in ("one", "two", "three"):
                        speaker.publish(address, text)
                found = [messages.get(WAIT).text for _ in range(2)]
            with bus.subscribe(address, since="mark") as messages:
                last = messages.get(WAIT)
                last.mark()
            assert bus.marks[address].seq == 3
            return [*found, last.text]

    assert await asyncio.to_thread(read) == ["one", "two", "three"]


async def test_the_command_line_goes_on_at_its_mark(client: Connect, cli: Cli, fresh_room: str, tmp_path: Path) -> None:
    name, identity = f"me-{fresh_room}", str(tmp_path / "me.identity")

    def tail(*more: str) -> list[str]:
        done = cli("tail", "inbox", "--since", "mark", "--identity", identity, "--client-id", name, "--json", *more)
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["message"] for line in done.stdout.splitlines()]

    assert await asyncio.to_thread(tail, "--timeout", "0") == []
    speaker = await client()
    for text in ("one", "two", "three"):
        await speaker.private(name, text)
    assert await asyncio.to_thread(tail, "--count", "2", "--timeout", "20") == ["one", "two"]
    assert await asyncio.to_thread(tail, "--count", "1", "--timeout", "20") == ["three"]
