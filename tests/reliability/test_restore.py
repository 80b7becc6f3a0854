"""An older state of the database, put back as docs/operations.md says."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient


def copy(source: Path, target: Path) -> None:
    """What `sqlite3 source ".backup target"` does."""
    with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
        here.backup(there)


@pytest.mark.embedded
async def test_after_a_restore_clients_are_told_what_is_gone_and_go_on(
    start_server: StartServer, storage: Storage, tmp_path: Path
) -> None:
    database, backup = Path(storage.database_url.removeprefix("sqlite:///")), tmp_path / "backup.sqlite3"
    # The backup holds a young sign of life of the process that served; waiting for it to grow old need not take six seconds.
    short = {"ARQONBUS_NODE_HEARTBEAT": "0.5", "ARQONBUS_NODE_TIMEOUT": "3"}
    server = await asyncio.to_thread(start_server, env=short)
    client = await WireClient.connect(server.url, client_id="reader", room="lab:bench")
    async with await WireClient.connect(server.url, room="lab:door") as publisher:
        for number in range(1, 4):
            await publisher.publish(f"kept {number}", room="lab", channel="bench", ack=True)
        await asyncio.to_thread(copy, database, backup)
        for number in range(4, 9):
            await publisher.publish(f"lost {number}", room="lab", channel="bench", ack=True)
    await client.wait_seq("lab:bench", 8)
    with pytest.raises(AssertionError, match=r"1 process\(es\) of the bus use this database. Stop them first."):
        await asyncio.to_thread(server.manage, "new_epochs")

    await asyncio.to_thread(server.terminate)
    await asyncio.to_thread(copy, backup, database)
    await asyncio.to_thread(server.manage, "new_epochs")
    await asyncio.to_thread(server.start)

    async with (
        await client.reconnect() as back,
        await WireClient.connect(server.url, room="lab:door") as publisher,
    ):
        told = back.registered["channels"]["lab:bench"]
        assert (told["recovered"], told["first_seq"], told["seq"]) == (False, 1, 3)
        await publisher.publish("new 4", room="lab", channel="bench", ack=True)
        await back.wait_seq("lab:bench", 4)
        texts = [frame["payload"]["message"] for frame in back.messages("lab:bench")]
        assert texts == ["kept 1", "kept 2", "kept 3", "new 4"]
