"""P16 and P18 on SQLite: the file is locked by somebody else, the disk is full; the service resumes by itself."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError
from tests.harness.waiting import wait_for
from tests.reliability.traffic import read_database

pytestmark = pytest.mark.embedded


async def outcome(client: WireClient, text: str) -> str:
    """How the server answers a publish."""
    try:
        await client.publish(text, room="lab", channel="bench", ack=True, timeout=30)
    except WireError as error:
        return error.code
    return "ack"


async def test_a_locked_database_is_said_and_hurts_nothing_else(
    start_server: StartServer, storage: Storage, wire: Connect
) -> None:
    server = await asyncio.to_thread(start_server)
    member, publisher = await wire(server, room="lab:bench"), await wire(server, room="lab:door")
    assert await outcome(publisher, "before") == "ack"
    assert storage.sqlite_path is not None
    with contextlib.closing(sqlite3.connect(storage.sqlite_path, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        assert await outcome(publisher, "refused") == "UNAVAILABLE"
        await member.ping()
        # Reading goes on.
        history = await member.request("history", room="lab", channel="bench", after=0)
        assert [message["message"] for message in history["messages"]] == ["before"]
        locker.execute("ROLLBACK")
    async with asyncio.timeout(60):
        while await outcome(publisher, "after") != "ack":
            pass
    await member.expect(message="after")
    # Refused is refused, also when the lock was let go a moment later.
    assert not [row for row in member.messages("lab:bench") if row["message"] == "refused"]
    assert [row.seq for row in read_database(storage)["lab:bench"]] == [1, 2]


FILL_UP = """
import os, sys
sys.argv = ["daphne", "-b", "127.0.0.1", "-p", sys.argv[1], "arqonbus_site.asgi:application"]
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "arqonbus_site.settings"
django.setup()
from django.db.backends.signals import connection_created
def limit(connection, **_):
    with connection.cursor() as cursor:
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {int(open(os.environ['PAGES']).read() or 0) or pages + 100000}")
connection_created.connect(limit)
from daphne.cli import CommandLineInterface
CommandLineInterface.entrypoint()
"""


async def test_a_full_disk_is_said_to_publishers_and_forgotten_once_there_is_room(
    start_server: StartServer, storage: Storage, wire: Connect
) -> None:
    """The engine's own "database or disk is full", made by its limit of pages (a setting of each connection)."""
    import sys

    from tests.harness.server import BusServer

    assert storage.sqlite_path is not None
    pages = storage.sqlite_path.with_suffix(".pages")
    with contextlib.closing(sqlite3.connect(storage.sqlite_path)) as connection:
        used = connection.execute("PRAGMA page_count").fetchone()[0]
    pages.write_text(str(used + 20))
    server: BusServer = await asyncio.to_thread(start_server, wait=False, env={"PAGES": str(pages)})
    await asyncio.to_thread(server.kill)
    server.process.argv = [sys.executable, "-c", FILL_UP, str(server.port)]
    await asyncio.to_thread(server.start)
    member, publisher = await wire(server, room="lab:bench"), await wire(server, room="lab:door")
    told = [await outcome(publisher, "x" * 10_000) for _ in range(30)]
    assert told[0] == "ack"
    assert set(told) == {"ack", "UNAVAILABLE"}
    assert told[-1] == "UNAVAILABLE"
    await wait_for(lambda: asyncio.to_thread(lambda: not server.ready()), "/ready tells that nothing can be written")
    await member.ping()
    kept = len(read_database(storage)["lab:bench"])
    assert kept == told.count("ack")
    pages.write_text("0")  # somebody made room
    async with asyncio.timeout(60):
        while await outcome(publisher, "room again") != "ack":
            pass
    await member.expect(message="room again")
    await wait_for(lambda: asyncio.to_thread(server.ready), "/ready tells that it can")
    assert [frame["seq"] for frame in member.messages("lab:bench")] == list(range(1, kept + 2))
    assert "full" in server.log()
    assert "Traceback" not in server.log()
