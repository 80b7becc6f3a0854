"""Streams in the middle of everything else: a stop, a deletion, retention, a restored backup, every kind of address."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError, new_id
from tests.harness.events import EventListener
from tests.harness.growing import Watch
from tests.harness.member import Member
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.reliability.growing import Streams, assert_nothing_is_open, ends_kept
from tests.reliability.test_restore import copy
from tests.reliability.traffic import query


async def opened(client: WireClient, room: str, channel: str | None, mode: str = "text") -> str:
    """Open a stream; its uid."""
    of = new_id()
    await client.publish(ack=True, message_id=of, room=room, channel=channel, stream={"mode": mode})
    return of


async def append(client: WireClient, of: str, n: int, delta: str | None = "word ", **fields: Any) -> dict[str, Any]:
    """Append a part; its ack. Raises WireError."""
    return await client.publish(type="append", of=of, n=n, delta=delta, ack=True, **fields)


async def test_a_deploy_in_the_middle_costs_no_part(start_server: StartServer, storage: Storage) -> None:
    """Two graceful restarts while streams grow: owners, readers and listeners come back and go on."""
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_RETRY_SPREAD": "0.2"})
    token = await asyncio.to_thread(server.create_token, "tests", admin=True)
    crowd = Streams([server], token=token, seed=14)
    try:
        await crowd.reader("old", "lab:talk")
        for number in range(4):
            crowd.listen(await crowd.speech("lab:talk", "parts" if number == 3 else "text", 120, rate=30))
        speaking = [crowd.start(owner.run()) for owner in crowd.owners]
        for _ in range(2):
            await asyncio.sleep(0.7)  # somewhere in the middle
            await asyncio.to_thread(server.restart, graceful=True)
        await asyncio.gather(*speaking)
        await crowd.all_read()
        crowd.judge(storage)
        assert {code for member in crowd.members for code in member.codes} == {4012}
    finally:
        await crowd.stop()
    assert "Traceback" not in server.log()


@pytest.mark.embedded
async def test_a_message_to_a_whole_room_grows_for_every_member_of_the_room(
    start_server: StartServer, wire: Connect, storage: Storage
) -> None:
    server = await asyncio.to_thread(start_server)
    watches = [Watch(f"reader-{n}") for n in range(3)]
    readers = [
        await wire(server, room=f"lab:{channel}", recorder=watch)
        for channel, watch in zip(("bench", "notes", "door"), watches, strict=True)
    ]
    outside = await wire(server, room="den:hall")
    owner = await wire(server, client_id="owner", room="lab:door")
    of = await opened(owner, "lab", None)
    for n in range(1, 4):
        await append(owner, of, n, f"{n} ")
    async with await WireClient.connect(server.url, room="lab:other", recorder=(late := Watch("late"))) as joined:
        await joined.expect(type="append", of=of, snapshot=True)
        await append(owner, of, 4, "4 ", end="complete")
        await joined.expect(type="stream_end", of=of)
    for reader in readers:
        await reader.expect(type="stream_end", of=of)
    for watch in (*watches, late):
        growth = watch.growth(of)
        assert (growth.content, growth.problems) == ("1 2 3 4 ", []), watch.name
    assert [watch.growth(of).appends for watch in watches] == [4, 4, 4]
    await outside.expect_nothing(predicate=lambda frame: of in json.dumps(frame), after=[owner])
    assert_nothing_is_open(storage)


@pytest.mark.embedded
async def test_in_an_ephemeral_channel_nothing_grows(start_server: StartServer, wire: Connect) -> None:
    server = await asyncio.to_thread(start_server)
    token = await asyncio.to_thread(server.create_token, "admin", admin=True)
    body = {"room": "lab", "channel": "passing", "ephemeral": True}
    headers = {"Authorization": f"Bearer {token}"}
    assert (await asyncio.to_thread(server.request, "POST", "/api/v1/channels", body, headers))[0] == 201
    owner = await wire(server, room="lab:passing")
    with pytest.raises(WireError) as refused:
        await opened(owner, "lab", "passing")
    assert (refused.value.code, refused.value.details[0]["field"]) == ("VALIDATION_ERROR", "stream")


async def test_a_channel_that_is_deleted_takes_its_streams_along(
    start_server: StartServer, wire: Connect, storage: Storage
) -> None:
    server = await asyncio.to_thread(start_server)
    token = await asyncio.to_thread(server.create_token, "admin", admin=True)
    admin = await wire(server, headers={"Authorization": f"Bearer {token}"}, room="lab:door")
    owner = await wire(server, client_id="owner", room="lab:door")
    reader = await wire(server, room="lab:gone")
    of, kept = await opened(owner, "lab", "gone"), await opened(owner, "lab", "stays")
    await append(owner, of, 1)
    events: list[tuple[str, str]] = []

    def take(name: str, data: str) -> bool:
        events.append((name, data))
        return name == "closed"

    listener = EventListener([server], f"/api/v1/streams/{of}/events?as=parts", take)
    listening = asyncio.ensure_future(listener.run())
    await wait_for(lambda: any("word" in data for _, data in events), "the listener has the first part")
    # Only an empty channel goes. An owner and listeners are no members.
    await reader.leave("lab", "gone")
    await admin.request("delete_channel", room="lab", channel="gone")
    await asyncio.wait_for(listening, 30)
    with pytest.raises(WireError) as refused:
        await append(owner, of, 2)
    assert refused.value.code == "STREAM_NOT_FOUND"
    # Made anew under the same name it has nothing to do with the old one.
    again = await opened(owner, "lab", "gone")
    for uid in (again, kept):
        await append(owner, uid, 1, "new ", end="complete")
    assert query(storage, f"SELECT uid FROM bus_stream WHERE uid = '{of}'") == []
    assert_nothing_is_open(storage)
    assert "Traceback" not in server.log()


async def test_retention_keeps_the_opening_of_what_still_grows_and_drops_it_afterwards(
    start_server: StartServer, wire: Connect, storage: Storage
) -> None:
    env = {"ARQONBUS_RETENTION_COUNT": "5"}
    server = await asyncio.to_thread(start_server, env=env)
    owner = await wire(server, client_id="owner", room="lab:door")
    reader = await wire(server, room="lab:talk")
    for n in range(10):
        await owner.publish(f"{n}", room="lab", channel="talk", ack=True)
    of = await opened(owner, "lab", "talk")
    await append(owner, of, 1)
    # A log has no holes: what came after the opening stays as long as the opening.
    for n in range(10, 40):
        await owner.publish(f"{n}", room="lab", channel="talk", ack=True)

    def rows(statement: str) -> int:
        return int(query(storage, statement)[0][0])

    def pruned() -> bool:
        return rows('SELECT COUNT(*) FROM bus_message WHERE frame LIKE \'%"message":"0"%\'') == 0

    await asyncio.to_thread(server.manage, "prune_history")
    await wait_for(pruned, "the oldest messages are gone", deadline=60)
    assert rows(f"SELECT COUNT(*) FROM bus_message WHERE uid = '{of}'") == 1
    await append(owner, of, 2, end="complete")
    assert (await reader.expect(type="stream_end", of=of))["message"] == "word word "
    for n in range(30):
        await owner.publish(f"more {n}", room="lab", channel="talk", ack=True)
    await asyncio.to_thread(server.manage, "prune_history")
    gone = f"SELECT (SELECT COUNT(*) FROM bus_message WHERE uid = '{of}') + (SELECT COUNT(*) FROM bus_stream WHERE uid = '{of}')"
    await wait_for(lambda: rows(gone) == 0, "the stream has gone with its opening", deadline=60)
    with pytest.raises(WireError) as refused:
        await append(owner, of, 3)
    assert refused.value.code in ("STREAM_NOT_FOUND", "STREAM_ENDED")
    assert_nothing_is_open(storage)


@pytest.mark.embedded
async def test_after_a_restore_an_owner_learns_what_is_left_and_says_the_rest_again(
    start_server: StartServer, storage: Storage, tmp_path: Path
) -> None:
    database, backup = Path(storage.database_url.removeprefix("sqlite:///")), tmp_path / "backup.sqlite3"
    short = {"ARQONBUS_NODE_HEARTBEAT": "0.5", "ARQONBUS_NODE_TIMEOUT": "3", "ARQONBUS_RETRY_SPREAD": "0.2"}
    server: BusServer = await asyncio.to_thread(start_server, env=short)
    owner = await Member([server], None, client_id="owner", room="lab:door").start()
    of = new_id()
    opening: dict[str, Any] = {"message_id": of, "room": "lab", "channel": "talk", "stream": {"mode": "text"}}
    await owner.client.publish(ack=True, **opening)
    lost = new_id()
    for n in range(1, 4):
        await append(owner.client, of, n, f"{n} ")
    await asyncio.to_thread(copy, database, backup)
    for n in range(4, 7):
        await append(owner.client, of, n, f"{n} ")
    await owner.client.publish(ack=True, **{**opening, "message_id": lost})
    await append(owner.client, lost, 1)
    await asyncio.to_thread(server.terminate)
    await asyncio.to_thread(copy, backup, database)
    await asyncio.to_thread(server.manage, "new_epochs")
    await asyncio.to_thread(server.start)
    try:
        client = await owner.connected()
        await client.ping()
        watch = Watch("reader")
        reader = await WireClient.connect(server.url, room="lab:talk", recorder=watch)
        ack = await client.publish(ack=True, **opening)
        assert ack["stream"]["have"] == 3
        with pytest.raises(WireError) as gap:
            await append(client, of, 7, "7 ")
        assert (gap.value.code, gap.value.details[0]["have"]) == ("STREAM_GAP", 3)
        for n in range(4, 8):
            await append(client, of, n, f"{n} ")
        await append(client, of, 7, None, end="complete")
        await reader.expect(type="stream_end", of=of)
        assert (watch.growth(of).content, watch.growth(of).problems) == ("1 2 3 4 5 6 7 ", [])
        # What the backup never had is as if it had never been: it can be opened again, and is then empty.
        with pytest.raises(WireError) as none:
            await append(client, lost, 2)
        assert none.value.code == "STREAM_NOT_FOUND"
        assert (await client.publish(ack=True, **{**opening, "message_id": lost}))["stream"]["have"] == 0
        await append(client, lost, 1, end="complete")
        await reader.close()
    finally:
        await owner.stop()
    assert {of: len(ends) for of, ends in ends_kept(storage).items()} == {of: 1, lost: 1}
    assert_nothing_is_open(storage)


@pytest.mark.embedded
async def test_an_export_brings_answers_back_and_makes_no_owner_of_anybody(
    start_server: StartServer, wire: Connect, storage: Storage, tmp_path: Path
) -> None:
    server = await asyncio.to_thread(start_server)
    token = await asyncio.to_thread(server.create_token, "admin", admin=True)
    admin = await wire(server, headers={"Authorization": f"Bearer {token}"}, room="lab:door")
    owner = await wire(server, client_id="owner", room="lab:door")
    ended, growing = await opened(owner, "lab", "talk"), await opened(owner, "lab", "talk")
    await append(owner, ended, 1, "whole ")
    await append(owner, ended, 2, "answer", end="complete", payload={"usage": 2})
    await append(owner, growing, 1, "half")
    await asyncio.to_thread(server.manage, "export_history", "lab:talk", "--output", str(tmp_path / "talk.jsonl"))
    await admin.request("delete_channel", room="lab", channel="talk")
    await asyncio.to_thread(server.manage, "import_history", str(tmp_path / "talk.jsonl"))
    folded = (await admin.request("history", room="lab", channel="talk", fold=True))["messages"]
    found = {message["id"]: message for message in folded}
    assert found[ended]["message"] == "whole answer"
    assert found[ended]["stream"]["state"] == "complete"
    assert growing in found
    with pytest.raises(WireError) as refused:
        await append(owner, growing, 2)
    assert refused.value.code == "STREAM_NOT_FOUND"
    assert_nothing_is_open(storage)
    assert "Traceback" not in server.log()
