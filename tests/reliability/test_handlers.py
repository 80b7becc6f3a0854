"""P35: handlers are killed with kill -9, and each message has changed the database exactly once, in the order of its channel."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends, Storage
from tests.harness.client import WireClient
from tests.harness.processes import ManagedProcess
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

CHANNELS = ("a", "b", "c")
#: The site with the handler that counts.
SITE = {"DJANGO_SETTINGS_MODULE": "tests.reliability.counting.settings"}
#: A busy machine may take this many seconds to start a process and to handle a few messages.
BUSY = 120.0


class Counting:
    """Processes with the handler of `tests.reliability.counting`, and what they wrote down."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.storage, self.folder = storage, folder
        self.processes: list[ManagedProcess] = []
        number = "INTEGER PRIMARY KEY AUTOINCREMENT" if storage.sqlite_path else "serial PRIMARY KEY"
        storage.execute("CREATE TABLE counted (n INTEGER NOT NULL)")
        storage.execute("INSERT INTO counted VALUES (0)")
        storage.execute(f"CREATE TABLE handled (id {number}, channel TEXT, seq BIGINT, pid BIGINT)")

    def run(self, server: BusServer, threads: int = 2) -> ManagedProcess:
        """Start one more `runhandlers`, without waiting."""
        process = ManagedProcess(
            [sys.executable, "manage.py", "runhandlers", "--skip-checks", "--threads", str(threads)],
            log_path=self.folder / f"handlers-{len(self.processes)}.log",
            env={**server.process.env, **SITE},
        )
        process.start()
        self.processes.append(process)
        return process

    def count(self) -> int:
        """The counter."""
        ((number,),) = self.storage.execute("SELECT n FROM counted")
        return int(number)

    def handled(self) -> list[tuple[str, int, int]]:
        """Channel, seq and process of each message, in the order in which they were handled."""
        return [
            (row[0], row[1], row[2])
            for row in self.storage.execute("SELECT channel, seq, pid FROM handled ORDER BY id")
        ]

    def handled_by(self, process: ManagedProcess) -> int:
        """How many messages a process handled."""
        ((number,),) = self.storage.execute(f"SELECT count(*) FROM handled WHERE pid = {process.pid}")
        return int(number)

    async def reach(self, number: int) -> None:
        """Wait until the counter has a value."""
        await wait_for(lambda: self.count() >= number, f"{number} messages are handled", deadline=BUSY * 3)

    def assert_exact(self, messages: int) -> None:
        """Each message is handled once, and each channel in its order."""
        handled = self.handled()
        assert (self.count(), len(handled)) == (messages, messages)
        for channel in CHANNELS:
            seqs = [seq for name, seq, _ in handled if name == channel]
            assert seqs == list(range(1, len(seqs) + 1))

    async def stop(self) -> None:
        """End the processes."""
        for process in self.processes:
            await asyncio.to_thread(process.kill)


async def publish(client: WireClient, messages: int) -> None:
    """Publish to the channels in turn, not more at once than a server lets wait."""
    for start in range(0, messages, 250):
        await asyncio.gather(
            *(
                client.publish(room="count", channel=CHANNELS[n % 3], payload={"n": n}, ack=True, timeout=60)
                for n in range(start, min(start + 250, messages))
            )
        )


async def run_through(
    counting: Counting, server: BusServer, wire: Connect, messages: int, kills: int, seed: int
) -> None:
    """Publish messages while one `runhandlers` is killed some times, each time after some more messages."""
    rng = random.Random(seed)
    client = await wire(server, room="lab:door")
    publishing = asyncio.create_task(publish(client, messages))
    for number in range(kills):
        process = await asyncio.to_thread(counting.run, server)
        await counting.reach(messages * number // kills + rng.randint(1, messages // kills))
        # In the middle of whatever it does.
        await asyncio.to_thread(process.kill)
    last = await asyncio.to_thread(counting.run, server)
    await publishing
    await counting.reach(messages)
    await wait_for(lambda: " as counter." in last.log(), "the last process is ready", deadline=BUSY)
    assert await asyncio.to_thread(last.terminate, BUSY) == 0
    counting.assert_exact(messages)


async def test_a_counter_is_exact_although_the_handlers_beside_a_server_are_killed(
    start_server: StartServer, storage: Storage, backends: Backends, wire: Connect
) -> None:
    counting = Counting(storage, backends.new_path("handlers"))
    server = await asyncio.to_thread(start_server, "runbus", env=SITE, arguments=("--handlers", "1"))
    client = await wire(server, room="lab:door")
    publishing = asyncio.create_task(publish(client, 120))
    await counting.reach(10)
    # In the middle of whatever it does.
    killed = counting.handled()[-1][2]
    os.kill(killed, signal.SIGKILL)
    await publishing
    await publish(client, 3)
    await counting.reach(123)
    counting.assert_exact(123)
    last = psutil.Process(counting.handled()[-1][2])
    assert last.pid != killed
    assert await asyncio.to_thread(server.terminate, BUSY) == 0
    assert not last.is_running()


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_a_counter_of_5000_messages_is_exact_with_a_kill_about_every_second(
    start_server: StartServer, storage: Storage, backends: Backends, wire: Connect
) -> None:
    server = await asyncio.to_thread(start_server)
    counting = Counting(storage, backends.new_path("handlers"))
    try:
        await run_through(counting, server, wire, 5000, 40, 2)
    finally:
        await counting.stop()


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_two_processes_share_the_channels_and_each_message_is_handled_by_one(
    start_server: StartServer, storage: Storage, backends: Backends, wire: Connect
) -> None:
    server = await asyncio.to_thread(start_server)
    counting = Counting(storage, backends.new_path("handlers"))
    client = await wire(server, room="lab:door")
    try:
        two = [counting.run(server) for _ in range(2)]
        published = 0
        while published < 3000 or not all(counting.handled_by(process) for process in two):
            await publish(client, 300)
            published += 300
            await counting.reach(published)
        counting.assert_exact(published)
        assert [await asyncio.to_thread(process.terminate, BUSY) for process in two] == [0, 0]
        print([counting.handled_by(process) for process in two])
    finally:
        await counting.stop()
