"""P7, P13, P18: one message once, whoever sends it however often; what is committed is heard, what is rolled back is not."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, new_id
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer
from tests.reliability.traffic import Crowd, read_database


async def test_five_hundred_messages_sent_three_times_at_once_over_two_connections_are_five_hundred(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    """One sender on its socket and over REST at the same time: each message twice here and once there, at once."""
    name = f"sender-{fresh_room}"
    token = await asyncio.to_thread(shared_server.create_token, name)
    headers = {"Authorization": f"Bearer {token}"}
    socket = await wire(shared_server, headers=headers, client_id=name, room=f"{fresh_room}:door")
    ids = [new_id() for _ in range(500)]
    seqs: dict[str, set[int]] = {message_id: set() for message_id in ids}
    first = {"socket": 0, "REST": 0}
    answers = 0

    def note(door: str, message_id: str, answer: dict[str, Any]) -> None:
        nonlocal answers
        answers += 1
        seqs[message_id].add(answer["seq"])
        first[door] += not answer.get("duplicate")

    async def post(rest: httpx.AsyncClient) -> None:
        """Ten at a time, from the last one on."""
        for start in range(490, -1, -10):
            messages = [
                {"channel": f"{fresh_room}:hall", "message": "once", "id": message_id}
                for message_id in reversed(ids[start : start + 10])
            ]
            answer = await rest.post("messages", params={"client_id": name}, json={"messages": messages})
            assert answer.status_code in (200, 201), answer.text
            for message, made in zip(messages, answer.json()["results"], strict=True):
                note("REST", message["id"], made)

    async def send() -> None:
        """One after the other, each twice without waiting in between, from the first one on."""
        for message_id in ids:
            frame = socket.message_frame(message_id, "once", room=fresh_room, channel="hall", ack=True)
            await socket.send(frame)
            await socket.send(frame)
            for ack in await socket.expect_all(2, type="ack"):
                note("socket", ack["request_id"], ack)

    base = f"{shared_server.http_url}/api/v1/"
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60, trust_env=False) as rest:
        # From both ends at once, so that each door comes first with some and second with the others.
        await asyncio.gather(post(rest), send())
    assert answers == 1500
    assert all(len(found) == 1 for found in seqs.values())
    assert {seq for found in seqs.values() for seq in found} == set(range(1, 501))
    assert sum(first.values()) == 500
    assert min(first.values()) > 0, f"they were not used at once: {first}"


async def test_a_connection_that_takes_over_repeats_what_the_first_one_sent_and_nothing_comes_twice(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    name = f"sender-{fresh_room}"
    first = await wire(shared_server, client_id=name, room=f"{fresh_room}:hall")
    ids = [new_id() for _ in range(500)]
    frames = [first.message_frame(i, "once", room=fresh_room, channel="hall", ack=True) for i in ids]

    for frame in frames:
        await first.send(frame)
        await first.send(frame)
    acks = await first.expect_all(1000, type="ack", timeout=30)
    second = await first.reconnect()
    assert await first.wait_closed() == 4410
    for frame in frames:
        await second.send(frame)
    acks += await second.expect_all(500, type="ack", timeout=30)
    await second.close()
    by_id: dict[str, set[int]] = {}
    for ack in acks:
        by_id.setdefault(ack["request_id"], set()).add(ack["seq"])
    assert len(acks) == 1500
    assert all(len(found) == 1 for found in by_id.values())
    assert {seq for found in by_id.values() for seq in found} == set(range(1, 501))
    assert sum(bool(ack.get("duplicate")) for ack in acks) == 1000


@pytest.mark.cluster
async def test_the_same_id_at_two_processes_at_once_and_after_a_restart_is_one_message(
    start_server: StartServer, storage: Storage
) -> None:
    first, second = await asyncio.gather(*(asyncio.to_thread(start_server) for _ in range(2)))
    token = await asyncio.to_thread(first.create_token, "service", admin=True)
    headers = {"Authorization": f"Bearer {token}"}
    path = "/api/v1/channels/lab:bench/messages"

    async def post(server: BusServer, number: int) -> tuple[int, bool]:
        body = {"message": "once", "id": f"order-{number}"}
        status, answer = await asyncio.to_thread(server.request, "POST", path, body, headers)
        assert status in (200, 201), answer
        made = json.loads(answer)
        return made["seq"], made["duplicate"]

    answers = await asyncio.gather(*(post(server, n) for n in range(30) for server in (first, second)))
    await asyncio.to_thread(first.restart)
    answers += await asyncio.gather(*(post(first, n) for n in range(30)))
    assert len({seq for seq, _ in answers}) == 30
    assert sum(not duplicate for _, duplicate in answers) == 30
    assert len(read_database(storage)["lab:bench"]) == 30


PUBLISH_AND_DIE = """
import os, signal, sys
import django
django.setup()
from django.db import transaction
from bus import services
from bus.notify import dispatch

def die(notification):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "after-commit":
    dispatch.notify = die
    with transaction.atomic():
        services.publish("lab:bench", message="committed")
elif sys.argv[1] == "before-commit":
    with transaction.atomic():
        services.publish("lab:bench", message="never committed")
        os.kill(os.getpid(), signal.SIGKILL)
elif sys.argv[1] == "hundred":
    for number in range(100):
        for kept in (False, True):
            with transaction.atomic():
                services.publish("lab:bench", message=f"kept {number}" if kept else "rolled back")
                transaction.set_rollback(not kept)
else:
    for number in range(int(sys.argv[2])):
        services.publish("lab:bench", message=f"{sys.argv[1]} {number}")
"""


def django_process(server: BusServer, *arguments: str) -> subprocess.Popen[bytes]:
    """A process of Django code that publishes, with the server's settings."""
    env = {**server.process.env, "DJANGO_SETTINGS_MODULE": "arqonbus_site.settings"}
    return subprocess.Popen([sys.executable, "-c", PUBLISH_AND_DIE, *arguments], env=env, cwd=PROJECT_ROOT)


async def test_a_process_that_dies_between_its_commit_and_the_notification_loses_nothing(
    start_server: StartServer, storage: Storage
) -> None:
    server = await asyncio.to_thread(start_server)
    async with await WireClient.connect(server.url, room="lab:bench") as member:
        await member.publish("first", room="lab", channel="bench", ack=True)
        for moment in ("before-commit", "after-commit"):
            assert await asyncio.to_thread(django_process(server, moment).wait, 60) == -9
        frame = await member.expect(message="committed")
        assert frame["seq"] == 2
        await member.publish("last", room="lab", channel="bench", ack=True, echo=True)
        await member.expect_nothing(message="never committed", until={"message": "last"})
    assert len(read_database(storage)["lab:bench"]) == 3


async def test_of_a_hundred_commits_and_a_hundred_rollbacks_of_django_code_a_member_hears_the_commits(
    start_server: StartServer, storage: Storage
) -> None:
    server = await asyncio.to_thread(start_server)
    async with await WireClient.connect(server.url, room="lab:bench") as member:
        assert await asyncio.to_thread(django_process(server, "hundred").wait, 60) == 0
        await member.wait_seq("lab:bench", 100)
        await member.publish("last", room="lab", channel="bench", ack=True, echo=True)
        await member.wait_seq("lab:bench", 101)
        texts = [frame["message"] for frame in member.messages("lab:bench")]
    assert texts == [*(f"kept {number}" for number in range(100)), "last"]
    assert len(read_database(storage)["lab:bench"]) == 101


@pytest.mark.embedded
async def test_three_processes_that_write_at_once_get_along(start_server: StartServer, storage: Storage) -> None:
    """On SQLite "database is locked" reaches nobody; a member of the server sees all of it in order."""
    server = await asyncio.to_thread(start_server)
    crowd = Crowd([server])
    member = (await crowd.join(1, "lab:bench"))[0]
    try:
        writers = [django_process(server, name, "150") for name in ("one", "two", "three")]
        assert await asyncio.gather(*(asyncio.to_thread(writer.wait, 60) for writer in writers)) == [0, 0, 0]
        await member.client.wait_seq("lab:bench", 450)
        assert [frame["seq"] for frame in member.client.messages("lab:bench")] == list(range(1, 451))
        assert [row.seq for row in read_database(storage)["lab:bench"]] == list(range(1, 451))
    finally:
        await crowd.stop()
    assert "locked" not in server.log()
