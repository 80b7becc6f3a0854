"""Checkpoints of SQLite: the write-ahead log stays small, and the thread that commits only copies its rest."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter

import pytest
from django.db import connection

from bus.log import Entry, checkpoints
from bus.models import Channel, Room
from tests.log.writing import write

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.embedded]


async def test_the_write_ahead_log_stays_small_while_another_thread_copies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    channel_id = await asyncio.to_thread(made)
    threads: dict[str, Counter[int]] = {"copy_most": Counter(), "copy_rest": Counter()}
    pages: list[int] = []

    def noted(name: str) -> None:
        real = getattr(checkpoints, name)

        def copy() -> int:
            threads[name][threading.get_ident()] += 1
            pages.append(real())
            return pages[-1]

        monkeypatch.setattr(checkpoints, name, copy)

    noted("copy_most")
    noted("copy_rest")
    monkeypatch.setattr(checkpoints, "EARLY", 0.01)  # of 4,000 pages
    async with write(timeout=10) as writing:
        for number in range(200):
            await writing.append(Entry(channel_id, b'{"id":"x"', b"}", f"arq_{number}", "event", "somebody"))
    (most,), (rest,) = threads.values()
    assert most != rest, "one thread did both"
    assert sum(threads["copy_rest"].values()) > 2
    # 200 commits write some 1,500 pages. Those before the first copy are of other tests.
    assert max(pages[len(pages) // 2 :]) < 500


async def test_a_long_reader_makes_no_copies_of_every_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The write-ahead log cannot begin anew while somebody reads what it was."""
    channel_id = await asyncio.to_thread(made)
    copies: list[int] = []
    real = checkpoints.copy_most

    def copy() -> int:
        copies.append(real())
        return copies[-1]

    monkeypatch.setattr(checkpoints, "copy_most", copy)
    monkeypatch.setattr(checkpoints, "EARLY", 0.02)
    reader = sqlite3.connect(connection.settings_dict["NAME"], check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM bus_channel").fetchall()
    try:
        async with write(timeout=10) as writing:
            for number in range(300):
                await writing.append(Entry(channel_id, b'{"id":"x"', b"}", f"arq_{number}", "event", "somebody"))
    finally:
        reader.close()
    assert 0 < len(copies) < 60


async def test_a_project_without_checkpoints_of_its_own_gets_none() -> None:
    def prepared(most: int) -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA wal_autocheckpoint={most}")
            found = checkpoints.prepare()
            cursor.execute("PRAGMA wal_autocheckpoint")
            now = cursor.fetchone()[0]
        connection.close()
        return [found, now]

    for most, then in ((0, 0), (1000, 4000)):
        assert await asyncio.get_running_loop().run_in_executor(None, prepared, most) == [most, then]


def made() -> int:
    try:
        return Channel.objects.create(room=Room.objects.create(name="lab"), name="bench").pk
    finally:
        connection.close()
