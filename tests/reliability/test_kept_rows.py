"""Rows that an older version kept, of which no reader of today could make a message: every way to read them outlives them."""

from __future__ import annotations

import csv
import io
import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import arqonbus
from tests.admin.conftest import Pages
from tests.clients_javascript.conftest import node_flags
from tests.clients_python.conftest import client_environment, start_cli
from tests.clients_python.test_mcp import agent
from tests.conftest import Connect, _servers
from tests.harness.backends import Backends
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import PASSWORD, BusServer
from tests.rest.test_events import following

LARGE = "9" * 5000
#: What stood behind the head of a frame, and what is given of it today, by seq. Seq 1 is a good one, as is the last.
KEPT: list[tuple[str, dict[str, Any]]] = [
    ('"payload":{"message":"one"},"message":"one"', {"payload": {"message": "one"}, "message": "one"}),
    (
        '"payload":{"n":2},"client_timestamp":"2026-01-01"00:00:00"',
        {"payload": {"n": 2}, "client_timestamp": "2026-01-01T00:00:00"},
    ),
    (
        '"payload":{"n":3},"client_timestamp":"2026-01-01\\00:00:00"',
        {"payload": {"n": 3}, "client_timestamp": "2026-01-01T00:00:00"},
    ),
    ('"payload":{"n":1e999,"m":-1e999}', {"payload": {"n": "1e999", "m": "-1e999"}}),
    (f'"payload":{{}},"message":{LARGE}', {"payload": {}, "message": LARGE}),
    ('"payload":{"torn', {"payload": {}, "unreadable": True}),
    ('"payload":{"message":"last"},"message":"last"', {"payload": {"message": "last"}, "message": "last"}),
]
SEQS = list(range(1, len(KEPT) + 1))

_INSERT = """
import json, sys
from datetime import UTC, datetime
from django.contrib.auth import get_user_model
from bus.models import Channel, Message, Room
rest, room = json.loads(%r)
channel = Channel.objects.create(room=Room.objects.create(name=room), name="talk", head=len(rest))
for seq, text in enumerate(rest, 1):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    head = {"version": "1.0", "id": f"arq_{seq}", "type": "event", "room": room, "channel": "talk",
            "from": "ada", "timestamp": "2026-01-01T00:00:00.000Z", "seq": seq}
    frame = json.dumps(head, separators=(",", ":"))[:-1] + "," + text + "}"
    Message.objects.create(channel=channel, seq=seq, uid=f"arq_{seq}", type="event", sender="ada", created_at=at, frame=frame)
get_user_model().objects.create_superuser(room, "", %r)
"""


@dataclass(frozen=True)
class Old:
    """A server whose database an older version has written to."""

    server: BusServer
    address: str
    token: str


@pytest.fixture(scope="module")
def old(backends: Backends) -> Iterator[Old]:
    """One server for all readers; none of them changes anything."""
    storage = backends.new_storage()
    with _servers(backends, storage) as start:
        server = start()
        room = f"old-{secrets.token_hex(4)}"
        given = json.dumps([[rest for rest, _ in KEPT], room])
        server.manage("shell", "--verbosity", "0", "--command", _INSERT % (given, PASSWORD))
        yield Old(server, f"{room}:talk", server.create_token("reader", admin=True))
    backends.drop_storage(storage)


def as_kept(frames: list[dict[str, Any]], old: Old) -> None:
    """That these are all of the messages, each as far as it can be read."""
    room, channel = old.address.split(":")
    for seq, frame, (_, told) in zip(SEQS, frames, KEPT, strict=True):
        head = {"version": "1.0", "id": f"arq_{seq}", "type": "event", "room": room, "channel": channel}
        assert frame == {**head, "from": "ada", "timestamp": "2026-01-01T00:00:00.000Z", "seq": seq, **told}


async def test_a_socket_that_catches_up(old: Old, wire: Connect) -> None:
    client = await wire(old.server, channel=old.address, since=0)
    last = await client.expect("event", predicate=lambda frame: frame.get("seq") == SEQS[-1])
    assert last["message"] == "last"
    as_kept([received.frame for received in client.received if "seq" in received.frame], old)


async def test_the_history_command(old: Old, wire: Connect) -> None:
    client = await wire(old.server)
    # From the database, then from the memory of a process that has met the channel.
    for _ in range(2):
        answer = await client.command("history", channel=old.address)
        as_kept(answer["result"]["messages"], old)
        await wire(old.server, channel=old.address, since=0)


@pytest.mark.parametrize("path", ["/channels/{address}/messages", "/messages", "/messages?text=e999"])
def test_rest_pages(old: Old, path: str) -> None:
    with httpx.Client(base_url=f"{old.server.http_url}/api/v1", trust_env=False, timeout=20) as rest:
        rest.headers["Authorization"] = f"Bearer {old.token}"
        answer = rest.get(path.format(address=old.address))
        assert answer.status_code == 200, answer.text
        found = json.loads(answer.content)["results"]
        found = [frame for frame in found if frame["room"] == old.address.split(":")[0]]
        if "text" in path:
            assert [frame["seq"] for frame in found] == [4]
        else:
            as_kept(found[::-1], old)
        as_kept([rest.get(f"/channels/{old.address}/messages/{seq}").json() for seq in SEQS], old)


async def test_events(old: Old) -> None:
    async with following(old.server, old.address, since=0) as reader:
        as_kept([event.data for event in await reader.messages(len(KEPT))], old)


@pytest.fixture(scope="module")
def pages(old: Old) -> Iterator[Pages]:
    """The admin of the server."""
    made = Pages(old.server, old.address.split(":")[0])
    yield made
    made.client.close()


def test_the_admins_list_search_and_details(old: Old, pages: Pages) -> None:
    room = old.address.split(":")[0]
    listed = pages.get(f"/admin/bus/message/?room={room}")
    for words in ("one", "1e999", LARGE[:100], "last"):
        assert words in listed
    assert "1e999" in pages.get(f"/admin/bus/message/?room={room}&q=e999")
    keys = dict(enumerate(sorted({int(key) for key in _keys(listed)}), 1))
    assert len(keys) == len(KEPT)
    for seq, key in keys.items():
        detail = pages.get(f"/admin/bus/message/{key}/change/")
        assert f"arq_{seq}" in detail
    assert "unreadable" in pages.get(f"/admin/bus/message/{keys[6]}/change/")


def _keys(listed: str) -> list[str]:
    return [part.split("/")[0] for part in listed.split("/admin/bus/message/")[1:] if part.split("/")[0].isdigit()]


def test_the_exports(old: Old, pages: Pages, tmp_path: Path) -> None:
    query = f"?room={old.address.split(':')[0]}"
    lines = pages.get(f"/admin/bus/message/export/jsonl/{query}").splitlines()
    as_kept([json.loads(line) for line in lines][::-1], old)
    rows = list(csv.DictReader(io.StringIO(pages.get(f"/admin/bus/message/export/csv/{query}"))))
    assert [row["seq"] for row in rows] == [str(seq) for seq in reversed(SEQS)]
    old.server.manage("export_history", old.address, "--output", str(tmp_path / "history.jsonl"))
    as_kept([json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()], old)


async def test_the_python_client(old: Old) -> None:
    async with arqonbus.connect(old.server.url, token=old.token) as bus:
        async with bus.subscribe(old.address, since=0) as messages:
            as_kept([(await messages.get(20)).raw for _ in SEQS], old)
            assert messages.gaps == 0
        as_kept([message.raw for message in (await bus.history_page(old.address)).messages], old)


@pytest.mark.needs("node")
def test_the_javascript_client(old: Old) -> None:
    script = f"""
        import {{ connect }} from "{PROJECT_ROOT}/clients/javascript/arqonbus.js";
        const bus = await connect("{old.server.url}", {{ token: "{old.token}" }});
        const found = [];
        for await (const message of bus.subscribe("{old.address}", {{ since: 0 }})) {{
          found.push(message.raw);
          if (found.length === {len(KEPT)}) break;
        }}
        process.stdout.write(JSON.stringify(found));
        process.exit(0);
    """
    done = subprocess.run(
        ["node", *node_flags(), "--input-type=module"], input=script, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    as_kept(json.loads(done.stdout), old)


def test_the_command_line(old: Old) -> None:
    for arguments in (("history", old.address), ("tail", old.address, "--since", "0", "--count", str(len(KEPT)))):
        as_kept([json.loads(line) for line in _cli(old, *arguments, "--json").splitlines()], old)
        assert _cli(old, *arguments).count(" ada ") == len(KEPT)


def _cli(old: Old, *arguments: str) -> str:
    with start_cli(*arguments, env=client_environment(old.server)) as process:
        told, problem = process.communicate(timeout=60)
    assert process.returncode == 0, problem
    return told


async def test_an_agents_host(old: Old) -> None:
    async with agent(old.server) as (robot, _):
        found = (await robot.call("history", address=old.address))["messages"]
        assert [message["seq"] for message in found] == SEQS
        assert found[1]["payload"] == {"n": 2}
        assert found[4]["text"] == "" or LARGE in json.dumps(found[4])
