"""P25: what a stream costs: one frame for who comes late, and storage in proportion to the text."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, new_id
from tests.harness.growing import Watch
from tests.reliability.growing import assert_nothing_is_open, ends_kept
from tests.reliability.traffic import query

#: How many parts wait for an ack at most.
WINDOW = 200


async def say(client: WireClient, of: str, first: int, last: int, piece: str) -> None:
    """Send the parts of these numbers, as fast as the server takes them."""
    for n in range(first, last + 1):
        await client.publish(type="append", of=of, n=n, delta=piece, ack=n % WINDOW == 0 or n == last, timeout=60)


async def test_who_joins_at_part_1000_gets_one_frame_for_the_past(start_server: StartServer, wire: Connect) -> None:
    server = await asyncio.to_thread(start_server)
    owner = await wire(server, client_id="owner", room="lab:door")
    of = new_id()
    await owner.publish(ack=True, message_id=of, room="lab", channel="talk", stream={"mode": "text"})
    await say(owner, of, 1, 1000, "word ")
    watch = Watch("late")
    late = await wire(server, client_id="late", room="lab:talk", recorder=watch)
    await late.expect(type="append", of=of, snapshot=True)
    assert (watch.growth(of).have, watch.growth(of).content) == (1000, "word " * 1000)
    await say(owner, of, 1001, 1010, "more ")
    await owner.publish(type="append", of=of, n=1010, end="complete", ack=True)
    await late.expect(type="stream_end", of=of)
    growth = watch.growth(of)
    assert growth.problems == []
    assert (growth.snapshots, growth.appends, growth.repeats) == (1, 10, 0)
    assert growth.content == "word " * 1000 + "more " * 10


def bytes_of_parts(storage: Storage) -> int:
    """The text in the rows of parts."""
    return int(query(storage, "SELECT COALESCE(SUM(LENGTH(data)), 0) FROM bus_streampart")[0][0])


def bytes_used(storage: Storage) -> int:
    """What the whole database takes on the disk, with free pages."""
    if storage.sqlite_path is None:
        return int(query(storage, f"SELECT pg_database_size('{storage.database}')")[0][0])
    return int(query(storage, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")[0][0])


@pytest.mark.parametrize(
    ("parts", "one_by_one"), [(20_000, False), (1_000, True)], ids=["20,000 parts", "1,000 commits"]
)
async def test_storage_is_in_proportion_to_the_text(
    start_server: StartServer, storage: Storage, wire: Connect, parts: int, one_by_one: bool
) -> None:
    piece = "ten bytes "
    text = piece * parts
    server = await asyncio.to_thread(start_server)
    owner = await wire(server, client_id="owner", room="lab:door")
    of = new_id()
    await owner.publish(ack=True, message_id=of, room="lab", channel="talk", stream={"mode": "text"})
    before = bytes_used(storage)
    if one_by_one:
        # No two of them share a commit, so each has a row of its own.
        for n in range(1, parts + 1):
            await owner.publish(type="append", of=of, n=n, delta=piece, ack=True)
    else:
        await say(owner, of, 1, parts, piece)
    assert bytes_of_parts(storage) == len(text)
    rows = query(storage, "SELECT COUNT(*) FROM bus_streampart")[0][0]
    assert 1 <= rows <= parts
    grown = bytes_used(storage) - before
    # A copy of the whole text for each part would take gigabytes. A row costs some bytes of its own.
    assert grown < 8 * len(text) + 200 * rows + (2 << 20), (grown, rows)
    assert query(storage, f"SELECT have, bytes FROM bus_stream WHERE uid = '{of}'") == [(parts, len(text))]
    await owner.publish(type="append", of=of, n=parts, end="complete", ack=True, timeout=60)
    assert_nothing_is_open(storage)
    (end,) = ends_kept(storage)[of]
    assert end["message"] == text
    longest, all_together = query(storage, "SELECT MAX(LENGTH(frame)), SUM(LENGTH(frame)) FROM bus_message")[0]
    assert len(text) < longest < len(text) + 1000
    # One copy in all.
    assert all_together < longest + 50_000
