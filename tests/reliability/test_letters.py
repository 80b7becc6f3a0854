"""P5, P6, P12: the inbox of a client that comes back: it has what it was sent, or is told that it has not."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer
from tests.reliability.test_restore import copy
from tests.reliability.traffic import query
from tests.rest.test_events import following

#: A killed process of another container is given up after this; one of this machine at once.
SHORT = {"ARQONBUS_NODE_HEARTBEAT": "0.5", "ARQONBUS_NODE_TIMEOUT": "3"}


async def write_to(publisher: WireClient, target: str, *texts: str) -> list[dict[str, Any]]:
    """Letters, one after another; their acks."""
    return [await publisher.publish(text, type="private", to=[target], ack=True) for text in texts]


def own(client: WireClient) -> dict[str, Any]:
    """What its registration said of its inbox."""
    told: dict[str, Any] = client.registered["channels"][f"pm:{client.client_id}"]
    return told


def letters(client: WireClient) -> list[str]:
    return [frame["message"] for frame in client.messages(f"pm:{client.client_id}")]


async def test_a_worker_that_was_killed_with_its_server_gets_every_job_by_its_token(start_server: StartServer) -> None:
    server = await asyncio.to_thread(start_server, env=SHORT)
    worker = await WireClient.connect(server.url, client_id="worker", room="lab:bench")
    async with await WireClient.connect(server.url, room="lab:door") as asker:
        await write_to(asker, "worker", "1", "2", "3")
        await worker.wait_seq("pm:worker", 3)
        worker.positions["pm:worker"]["seq"] = 2  # It died over the third.
        await worker.cut()
        await write_to(asker, "worker", "4")
        await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    async with await WireClient.connect(server.url, room="lab:door") as asker:
        (ack,) = await write_to(asker, "worker", "5")
        assert ack["unproven"] == ["worker"]
        async with await worker.reconnect(url=server.url) as back:
            assert (own(back)["recovered"], own(back)["seq"]) == (True, 5)
            assert "withheld" not in own(back)
            await back.wait_seq("pm:worker", 5)
            assert letters(back) == ["3", "4", "5"]
            # It is here, so what comes now waits for nobody.
            (ack,) = await write_to(asker, "worker", "6")
            assert "unproven" not in ack


async def test_a_worker_that_cannot_prove_itself_is_told_what_is_kept_from_it(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    name = f"worker-{fresh_room}"
    asker = await wire(shared_server, room=f"{fresh_room}:door")
    worker = await wire(shared_server, client_id=name, room=f"{fresh_room}:bench")
    await write_to(asker, name, "1", "2", "3")
    await worker.wait_seq(f"pm:{name}", 3)
    epoch = own(worker)["epoch"]
    await worker.close()
    for text in ("4", "5"):
        await write_to(asker, name, text)
    # Its stored position is of the right log, and all after it is there; but it is for whoever had the id.
    position = {f"pm:{name}": {"epoch": epoch, "seq": 2}}
    back = await wire(shared_server, client_id=name, room=f"{fresh_room}:bench", resume={"positions": position})
    assert own(back) == {"epoch": epoch, "seq": 5, "recovered": False, "first_seq": 6, "withheld": True}
    await write_to(asker, name, "6")
    await back.expect(message="6")
    assert letters(back) == ["6"]
    # Without a position there is a hint; with one that is its own there is no hole.
    token = back.registered["resume_token"]
    await back.close()
    again = await wire(shared_server, client_id=name, room=f"{fresh_room}:bench")
    assert own(again) == {"epoch": epoch, "seq": 6, "withheld": True}
    await again.close()
    position[f"pm:{name}"]["seq"] = 6
    mine = {"token": again.registered["resume_token"], "positions": position}
    assert own(await wire(shared_server, client_id=name, room=f"{fresh_room}:bench", resume=mine))["recovered"] is True
    assert token != again.registered["resume_token"]


async def test_the_ack_names_each_target_that_has_to_prove_itself(
    wire: Connect, shared_server: BusServer, admin_token: str, fresh_room: str
) -> None:
    asker = await wire(shared_server, room=f"{fresh_room}:door")
    here, gone, owned = f"here-{fresh_room}", f"gone-{fresh_room}", f"owned-{fresh_room}"
    await wire(shared_server, client_id=here, room=f"{fresh_room}:door")
    await (await wire(shared_server, client_id=gone, room=f"{fresh_room}:door")).close()
    await (await wire(shared_server, client_id=owned, room=f"{fresh_room}:door", token=admin_token)).close()
    await asker.expect(event="client_left", predicate=lambda frame: frame["payload"]["client_id"] == owned)
    ack = await asker.publish("all", type="private", to=[here, gone, owned], ack=True)
    assert ack["unproven"] == [gone]
    assert ack["targets"] == {here: 1, gone: 1, owned: 1}
    assert "unproven" not in await asker.publish("one", type="private", to=[owned], ack=True)


@pytest.mark.embedded
async def test_after_a_restore_a_position_in_an_inbox_that_was_not_there_at_the_registration_is_refused(
    start_server: StartServer, storage: Storage, tmp_path: Path
) -> None:
    """Its epoch is told before there is an inbox, and is another one afterwards."""
    database, backup = Path(storage.database_url.removeprefix("sqlite:///")), tmp_path / "backup.sqlite3"
    server = await asyncio.to_thread(start_server, env=SHORT)
    reader = await WireClient.connect(server.url, client_id="ada", room="lab:bench")
    old = own(reader)
    assert old["seq"] == 0
    assert old["epoch"]
    await asyncio.to_thread(copy, database, backup)
    async with await WireClient.connect(server.url, room="lab:door") as writer:
        await write_to(writer, "ada", "lost 1", "lost 2", "lost 3")
    await reader.wait_seq("pm:ada", 3)
    with closing(sqlite3.connect(database)) as rows:
        # The log has the epoch that was told.
        assert rows.execute("SELECT epoch FROM bus_channel WHERE name = 'ada'").fetchall() == [(old["epoch"],)]
    await asyncio.to_thread(server.terminate)
    await asyncio.to_thread(copy, backup, database)
    await asyncio.to_thread(server.manage, "new_epochs")
    await asyncio.to_thread(server.start)
    token = reader.registered["resume_token"]
    async with await WireClient.connect(server.url, room="lab:door") as writer:
        for epoch in (old["epoch"], ""):
            # Nothing was written to it yet.
            position = {"pm:ada": {"epoch": epoch, "seq": 3}}
            async with await WireClient.connect(
                server.url, client_id="ada", resume={"token": token, "positions": position}
            ) as back:
                assert (own(back)["recovered"], own(back)["first_seq"], own(back)["seq"]) == (False, 1, 0)
        await write_to(writer, "ada", "new 1", "new 2", "new 3", "new 4")
        for epoch in (old["epoch"], ""):
            position = {"pm:ada": {"epoch": epoch, "seq": 3}}
            async with await WireClient.connect(
                server.url, client_id="ada", resume={"token": token, "positions": position}
            ) as back:
                assert (own(back)["recovered"], own(back)["first_seq"], own(back)["seq"]) == (False, 1, 4)
                await back.wait_seq("pm:ada", 4)
                assert letters(back) == ["new 1", "new 2", "new 3", "new 4"]


async def test_an_inbox_has_the_epoch_that_was_told_before_and_after_its_first_letter(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    asker = await wire(shared_server, room=f"{fresh_room}:door")
    name = f"ada-{fresh_room}"
    reader = await wire(shared_server, client_id=name, room=f"{fresh_room}:door")
    told = own(reader)
    again = await reader.reconnect()
    assert own(again) == {**told, "recovered": True}
    await write_to(asker, name, "1")
    await again.wait_seq(f"pm:{name}", 1)
    await again.close()
    await write_to(asker, name, "2")
    back = await again.reconnect()
    assert own(back) == {"epoch": told["epoch"], "seq": 2, "recovered": True}
    await back.wait_seq(f"pm:{name}", 2)
    assert letters(back) == ["2"]
    await back.close()


@pytest.mark.cluster
async def test_letters_from_another_process_reach_the_socket_of_a_client_that_a_stream_of_events_came_before(
    start_server: StartServer,
) -> None:
    """The stream of events opened the inbox in this process; what it had was taken for what the socket had."""
    # Nobody looks at the logs by itself, so that whatever comes was told by the other process.
    here = await asyncio.to_thread(start_server, env={"ARQONBUS_HEARTBEAT": "3600"})
    there = await asyncio.to_thread(start_server)
    token = here.create_token("ada")
    socket = await WireClient.connect(here.url, client_id="ada", token=token, room="lab:bench")
    assert own(socket)["seq"] == 0
    async with (
        await WireClient.connect(there.url, room="lab:door") as writer,
        following(here, "pm:ada", token=token) as events,
    ):
        assert (await events.next()).name == "subscribed"
        for number in (1, 2, 3):
            await write_to(writer, "ada", str(number))
            assert [event.data["message"] for event in await events.messages(1)] == [str(number)]
            await socket.expect(message=str(number))
    assert letters(socket) == ["1", "2", "3"]
    await socket.close()


# --- ids that the server made up --------------------------------------------------------------------------------------------


async def test_who_comes_back_under_an_id_that_the_server_made_up_has_to_prove_itself(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    """With and without letters; with a token the client goes on, also after nothing of it was left."""
    asker = await wire(shared_server, room=f"{fresh_room}:door")
    for lettered in (False, True):
        client = await wire(shared_server, register=False)
        await client.send({"type": "register", "room": f"{fresh_room}:door"})
        client.registered = (await client.expect(event="registered"))["payload"]
        name = client.client_id
        position = {f"pm:{name}": {"epoch": own(client)["epoch"], "seq": 0}}
        if lettered:
            await write_to(asker, name, "secret")
            await client.expect(message="secret")
        await client.close()
        await asker.expect(event="client_left")
        if lettered:
            (ack,) = await write_to(asker, name, "late")
            assert ack["unproven"] == [name]
        else:
            with pytest.raises(WireError, match="TARGET_NOT_FOUND"):
                await write_to(asker, name, "late")
        bad: list[dict[str, Any]] = [{}, {"resume": {"token": "x" * 43, "positions": position}}]
        for registration in bad:
            with pytest.raises(WireError, match="CLIENT_ID_IN_USE"):
                await wire(shared_server, client_id=name, **registration)
        resume = {"token": client.registered["resume_token"], "positions": position}
        back = await wire(shared_server, client_id=name, room=f"{fresh_room}:door", resume=resume)
        assert own(back)["recovered"] is True
        if lettered:
            await back.wait_seq(f"pm:{name}", 2)
            assert letters(back) == ["secret", "late"]


async def test_letters_to_an_id_that_the_server_made_up_are_nobody_elses(
    start_server: StartServer, storage: Storage
) -> None:
    """The finding: the row went, the inbox stayed, and whoever called itself so read it."""
    server = await asyncio.to_thread(start_server)
    # An id of its own, so that it stays while it is away.
    async with await WireClient.connect(server.url, client_id="asker", room="lab:door") as asker:
        victim = await WireClient.connect(server.url, register=False)
        await victim.send({"type": "register", "room": "lab:door"})
        name = (await victim.expect(event="registered"))["payload"]["client_id"]
        await write_to(asker, name, "secret")
        await victim.expect(message="secret")
        await victim.close()
        await asker.expect(event="client_left")
        for behind_the_back in ("", f"DELETE FROM bus_client WHERE client_id = '{name}'"):
            if behind_the_back:
                await asyncio.to_thread(query, storage, behind_the_back)
            with pytest.raises(WireError, match="CLIENT_ID_IN_USE"):
                await WireClient.connect(server.url, client_id=name)
            with pytest.raises(WireError, match="CLIENT_ID_IN_USE"):
                await WireClient.connect(server.url, client_id=name.upper().replace("CLIENT", "client"))
