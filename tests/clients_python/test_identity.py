"""Who a client is outlives its process: the file of its identity, the resume token, and a service after `kill -9`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import arqonbus
from arqonbus import Position, errors, sync
from tests.clients_python.conftest import Cli, Connect, client_environment
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

WAIT = 20.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


# A service as on the page below "ask a service". It writes down what it is asked, and kills itself in the middle of the
# third question.
WORKER = """
import asyncio, os, signal, sys

import arqonbus

async def main():
    url, name = sys.argv[1:]
    async with arqonbus.connect(url, client_id=name, identity="worker.identity") as bus:

        @bus.answers(concurrency=1)
        async def add(question):
            numbers = question.payload["numbers"]
            with open("seen", "a") as file:
                file.write(f"{numbers[0]}\\n")
            if numbers == [3] and open("seen").read().split().count("3") == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"total": sum(numbers)}

        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_service_goes_on_where_it_was_killed(
    shared_server: BusServer, client: Connect, fresh_room: str, tmp_path: Path
) -> None:
    worker = f"adder-{fresh_room}"
    command = [sys.executable, "-c", WORKER, shared_server.url, worker]
    environment = client_environment(shared_server)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=tmp_path, env=environment)

    async with await client(client_id=f"asker-{fresh_room}") as asker:

        async def total(number: int) -> int:
            answer = await asker.ask(worker, {"numbers": [number]}, timeout=3 * WAIT, durable=True)
            return int(answer.payload["total"])

        first = start()
        while True:
            try:
                assert await total(1) == 1
                break
            except errors.NoResponder:
                assert first.poll() is None, "it runs"
        others = [asyncio.create_task(total(number)) for number in range(2, 7)]
        assert await asyncio.to_thread(first.wait, WAIT) == -signal.SIGKILL
        second = start()
        try:
            assert await asyncio.gather(*others) == [2, 3, 4, 5, 6]
        finally:
            second.kill()
            second.wait()
    seen = (tmp_path / "seen").read_text().split()
    assert set(seen) == set("123456")
    assert seen.count("3") == 2, "the question in whose middle it was killed comes again"


async def test_an_identity_is_one_client_in_every_process(shared_server: BusServer, tmp_path: Path) -> None:
    file = tmp_path / "worker.identity"
    async with arqonbus.connect(shared_server.url, identity=file) as bus, arqonbus.connect(shared_server.url) as other:
        name = bus.client_id
        assert bus.resume_token
        async with bus.inbox() as inbox:
            for text in ("one", "two", "three"):
                await other.private(name, text)
            assert [(await inbox.get(WAIT)).text for _ in range(2)] == ["one", "two"]

        async def failing() -> None:
            async with bus.inbox() as inbox:
                assert (await inbox.get(WAIT)).text == "three"
                raise LookupError("it fails at the third")

        with pytest.raises(LookupError):
            await failing()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["client_id"] == name
    async with arqonbus.connect(shared_server.url) as other:
        await other.private(name, "four")

    def in_another_process() -> list[str]:
        with sync.connect(shared_server.url, identity=str(file)) as bus, bus.inbox() as inbox:
            assert bus.client_id == name
            texts = [inbox.get(WAIT).text for _ in range(2)]
            assert inbox.gaps == 0
            return texts

    assert await asyncio.to_thread(in_another_process) == ["three", "four"]
    async with arqonbus.connect(shared_server.url, client_id=name, identity=file) as bus, bus.inbox() as inbox:
        with pytest.raises(TimeoutError, match=r"No message of pm:.* arrived within 0\.05 s"):
            await inbox.get(0.05)
        async with bus.inbox(since=0) as all_of_it:
            assert [(await all_of_it.get(WAIT)).text for _ in range(4)] == ["one", "two", "three", "four"]


async def test_an_identity_is_one_clients_alone(shared_server: BusServer, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "worker.identity"
    async with arqonbus.connect(shared_server.url, identity=file) as bus:
        with pytest.raises(arqonbus.IdentityInUse, match="in use by another client"):
            await arqonbus.connect(shared_server.url, identity=file)
        done = await asyncio.to_thread(cli, "tail", "inbox", "--timeout", "0.1", "--identity", str(file))
        assert (done.returncode, "in use by another client" in done.stderr) == (6, True)
        name = bus.client_id
    with pytest.raises(ValueError, match=f"identity of {name}, not of somebody"):
        await arqonbus.connect(shared_server.url, identity=file, client_id="somebody")
    for text in ("", "[]", '{"client_id": 1}', "\x00\xff"):
        file.write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match="not an identity file"):
            await arqonbus.connect(shared_server.url, identity=file)
    assert sorted(os.listdir(tmp_path)) == [file.name, f"{file.name}.lock"]


async def test_a_client_that_could_not_connect_gives_its_identity_back(
    shared_server: BusServer, tmp_path: Path
) -> None:
    file = tmp_path / "worker.identity"
    with pytest.raises(arqonbus.ConnectionFailed):
        await arqonbus.connect("ws://127.0.0.1:1/", identity=file)
    async with arqonbus.connect(shared_server.url, identity=file) as bus:
        await bus.ping()
    with pytest.raises(FileNotFoundError):
        await arqonbus.connect(shared_server.url, identity=tmp_path / "nowhere" / "file")


def test_a_forked_child_does_not_hold_the_identity(shared_server: BusServer, tmp_path: Path) -> None:
    file = tmp_path / "worker.identity"
    reading, writing = os.pipe()
    with sync.connect(shared_server.url, identity=file):
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)  # Until the parent is done.
            os._exit(0)
    try:
        sync.connect(shared_server.url, identity=file).close()
    finally:
        os.close(reading)
        os.close(writing)
        os.waitpid(child, 0)


async def test_a_resume_token_proves_who_one_is(shared_server: BusServer, client: Connect, fresh_room: str) -> None:
    name, other = f"worker-{fresh_room}", await client()
    async with arqonbus.connect(shared_server.url, client_id=name) as bus:
        token = bus.resume_token
        await other.private(name, "one")
    await other.private(name, "two")
    async with (
        arqonbus.connect(shared_server.url, client_id=name, resume_token=token) as bus,
        bus.inbox(since=0) as inbox,
    ):
        assert [(await inbox.get(WAIT)).text for _ in range(2)] == ["one", "two"]
        assert inbox.gaps == 0
        # Its newest connection is it, though nobody has missed the older one yet.
        async with arqonbus.connect(shared_server.url, client_id=name, resume_token=token) as newer:
            await newer.ping()
            with pytest.raises(arqonbus.ClosedByServer, match="4410"):
                await inbox.get(WAIT)
    with pytest.raises(ValueError, match="Give both"):
        arqonbus.connect(shared_server.url, resume_token=token)


async def test_a_place_in_another_inbox_is_a_gap_and_hides_nothing(client: Connect, fresh_room: str) -> None:
    name, other = f"worker-{fresh_room}", await client()
    bus = await client(client_id=name)
    for n in range(3):
        await other.private(name, {"n": n})
    place: Position | None = None
    for since in (Position(9, "of-a-backup"), Position(2, ""), Position(9), 9):
        async with bus.inbox(since=since) as inbox:
            assert inbox.gaps == 1, since
            messages = [await inbox.get(WAIT) for _ in range(3)]
            assert [(m.payload["n"], m.after_gap) for m in messages] == [(0, True), (1, False), (2, False)], since
            place = inbox.position
    assert place is not None
    assert place.epoch, "the log is known"
    await other.private(name, {"n": 3})
    async with bus.inbox(since=place) as inbox:
        assert (await inbox.get(WAIT)).payload["n"] == 3
        assert inbox.gaps == 0


@pytest.mark.parametrize("since", ["position", "the beginning", "the position of a stranger"])
async def test_who_cannot_prove_who_it_is_is_told_what_it_does_not_get(
    client: Connect, fresh_room: str, since: str
) -> None:
    name, asker = f"worker-{fresh_room}", await client()
    async with arqonbus.connect((await client())._dial.url, client_id=name) as bus, bus.inbox(since=0) as jobs:
        for n in (1, 2):
            await asker.private(name, {"job": n})
            assert (await jobs.get(WAIT)).payload == {"job": n}
        place = jobs.position

    async def away() -> bool:
        return name not in [row["client_id"] async for row in asker.clients()]

    await wait_for(away, "the server has missed it", deadline=WAIT)
    for n in (3, 4, 5, 6):
        receipt = await asker.private(name, {"job": n})
        assert (receipt.seq, receipt.unproven) == (n, (name,))
    bus = await client(client_id=name)
    start = {"position": place, "the beginning": 0, "the position of a stranger": Position(2, "another")}[since]
    async with bus.inbox(since=start) as jobs:
        assert jobs.gaps == 1
        await asker.private(name, {"job": 7})
        message = await jobs.get(WAIT)
        assert (message.payload, message.after_gap) == ({"job": 7}, True)
        later = jobs.position
    async with bus.inbox(since=later) as jobs:
        await asker.private(name, {"job": 8})
        assert (await jobs.get(WAIT)).payload == {"job": 8}
        assert jobs.gaps == 0
