"""Behind PgBouncer, with the settings of docs/operations.md and nothing else."""

from __future__ import annotations

import asyncio
import configparser
import dataclasses
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends, Storage
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.waiting import free_port, wait_until


def _documented() -> dict[str, str]:
    """The settings that the page tells."""
    text = (PROJECT_ROOT / "docs" / "operations.md").read_text()
    found = re.search(r"```ini\n(\[pgbouncer\].*?)```", text, re.DOTALL)
    assert found
    parser = configparser.ConfigParser()
    parser.read_string(found[1])
    return dict(parser["pgbouncer"])


@pytest.fixture
def pooled(storage: Storage, backends: Backends) -> Iterator[Storage]:
    """The test's storage, its database reached through a PgBouncer. It does not run as root, like PostgreSQL."""
    assert storage.postgres is not None
    folder, port = backends.new_path("pooler"), free_port()
    folder.mkdir()
    database = urlsplit(storage.database_url)
    settings = {
        **_documented(),
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
    }
    lines = [
        "[databases]",
        f"* = host={database.hostname} port={database.port} user={database.username}",
        "[pgbouncer]",
    ]
    path = folder / "pgbouncer.ini"
    path.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())]) + "\n")
    user = storage.postgres.user
    if user is not None:
        for each in (folder, path):
            _give(each, user)
    process = ManagedProcess(["pgbouncer", path], log_path=backends.new_path("pooler-log"), user=user)
    url = f"postgres://{database.username}@127.0.0.1:{port}{database.path}"

    def answers() -> bool:
        try:
            psycopg.connect(url, connect_timeout=10).close()
        except psycopg.OperationalError:
            return False
        return True

    process.start()
    try:
        wait_until(answers, f"PgBouncer answers\n{process.log_tail()}")
        yield dataclasses.replace(storage, database_url=url)
    finally:
        process.kill()


def _give(path: Path, user: str) -> None:
    os.chown(path, pwd.getpwnam(user).pw_uid, -1)


@pytest.mark.cluster
@pytest.mark.needs("pgbouncer")
async def test_the_bus_works_behind_a_pooler_of_transactions(
    pooled: Storage, start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    servers = [start_server(storage=pooled) for _ in range(2)]
    clients = [await wire(servers[number % 2], dialect="v1", room=fresh_room, channel="a") for number in range(8)]

    async def work(number: int) -> None:
        for count in range(40):
            await clients[number].publish(f"{number}/{count}", ack=True)

    await asyncio.gather(*(work(number) for number in range(8)))
    # Pages of more than the database gives at a time, and all of them at once: each on whatever connection is free.
    for _ in range(4):
        answers = await asyncio.gather(
            *(client.request("history", room=fresh_room, channel="a", after=0, limit=200) for client in clients)
        )
        assert {len(answer["messages"]) for answer in answers} == {200}
    for server in servers:
        assert "Traceback" not in server.log()
