"""Starting: four commands, one server; and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends, Storage, clean_environment, run_manage
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import KINDS, BusServer, ServerKind
from tests.harness.waiting import free_port, wait_until


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "daphne" else pytest.mark.embedded) for kind in KINDS]
)
async def test_every_command_starts_bus_telemetry_and_pages(
    start_server: StartServer, wire: Connect, kind: ServerKind, fresh_room: str
) -> None:
    server = start_server(kind)
    # The node began with the server, not with this first client.
    server.process.wait_for_log("event=node_started")
    for url in (server.url, server.url + "ws/"):
        client = await wire(url, room=f"{fresh_room}:a")
        assert (await client.publish("hello", ack=True))["seq"] >= 1
    for url in (server.telemetry_url, server.url + "telemetry/"):
        telemetry = await wire(url, register=False)
        await telemetry.expect(type="telemetry_connected")
    # A token in the URL is refused, and is not found in the log of any server.
    leaky = await wire(server.url + "?token=arq_tok_hush", register=False)
    assert await leaky.wait_closed() == 4401
    for path in ("/health", "/ready", "/version", "/metrics", "/admin/login/"):
        assert server.get(path)[0] == 200, path
    if kind in ("runbus", "websocket_bus"):
        _assert_start_up_lines(server)
    # Development mode says so in one readable line.
    (line,) = [line for line in server.log().splitlines() if "event=development_mode" in line]
    for word in ("DEBUG is on", "anonymous clients are accepted", "DEBUG=0", "SECRET_KEY", "ALLOWED_HOSTS"):
        assert word in line
    assert await asyncio.to_thread(server.terminate) == 0
    assert "Traceback" not in server.log()
    assert "hush" not in server.log()
    assert "event=node_stopped" in server.log()


def _assert_start_up_lines(server: BusServer) -> None:
    """They say where everything is, and how to become admin."""
    base = f"127.0.0.1:{server.port}"
    for text in (
        f"http://{base}/\n",
        f"ws://{base}/",
        f"ws://127.0.0.1:{server.telemetry_port}/",
        f"http://{base}/api/docs/",
        f"http://{base}/admin/",
        "make admin",
    ):
        assert text in server.log()


#: Every way to start the ready project, or to give it a command.
DOORS = {
    "websocket_bus": ["websocket_bus.py"],
    "daphne": ["-m", "daphne", "arqonbus_site.asgi:application"],
    "uvicorn": ["-m", "uvicorn", "arqonbus_site.asgi:application"],
    "arqonbus-server": ["-m", "arqonbus_site", "runbus"],
}


def _refusal(kind: str, *arguments: str, env: dict[str, str]) -> str:
    """The whole output of a start that must fail: one line, and no traceback."""
    ended = subprocess.run(
        [sys.executable, *DOORS.get(kind, ["manage.py", kind]), *arguments],
        cwd=PROJECT_ROOT,
        env=clean_environment(env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    lines = (ended.stdout + ended.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.embedded
def test_a_taken_port_is_one_line_that_names_it(storage: Storage, backends: Backends, taken_port: int) -> None:
    env = {**storage.env(), "SECRET_KEY": backends.secret_key}
    line = _refusal("runbus", "--host", "127.0.0.1", "--port", str(taken_port), "--telemetry-port", "0", env=env)
    assert f"Port {taken_port} on 127.0.0.1 is in use" in line
    assert "--port" in line


@pytest.mark.embedded
def test_a_taken_telemetry_port_names_its_own_option(storage: Storage, backends: Backends, taken_port: int) -> None:
    env = {**storage.env(), "SECRET_KEY": backends.secret_key}
    port = str(free_port())
    line = _refusal("runbus", "--host", "127.0.0.1", "--port", port, "--telemetry-port", str(taken_port), env=env)
    assert f"Port {taken_port}" in line
    assert "--telemetry-port" in line


@pytest.mark.embedded
def test_plain_daphne_says_in_one_line_that_the_port_is_taken(
    storage: Storage, backends: Backends, taken_port: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(taken_port), "arqonbus_site.asgi:application"],
        cwd=PROJECT_ROOT,
        env=clean_environment({**storage.env(), "SECRET_KEY": backends.secret_key}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [line for line in (ended.stdout + ended.stderr).splitlines() if "Address already in use" in line]
    assert len(lines) == 1
    assert f"127.0.0.1:{taken_port}" in lines[0]


@pytest.mark.embedded
def test_a_database_without_migrations_is_one_line_that_tells_the_command(tmp_path: Path) -> None:
    line = _refusal("runbus", env={"DATABASE_URL": f"sqlite:///{tmp_path}/new.sqlite3"})
    assert "manage.py migrate" in line


@pytest.mark.embedded
def test_a_database_that_does_not_answer_is_one_line_without_the_password() -> None:
    port = free_port()
    url = f"postgres://bus:hush@127.0.0.1:{port}/bus"
    line = _refusal("runbus", env={"DATABASE_URL": url, "SECRET_KEY": "x" * 50})
    assert f"127.0.0.1:{port}/bus" in line
    # Not that a pool waited in vain, but what for.
    assert "Connection refused" in line
    assert "DATABASE_URL" in line
    assert "hush" not in line


@pytest.mark.embedded
def test_django_s_own_commands_say_in_one_line_that_the_database_is_away() -> None:
    url = f"postgres://bus:hush@127.0.0.1:{free_port()}/bus"
    line = _refusal("migrate", env={"DATABASE_URL": url, "SECRET_KEY": "x" * 50})
    assert "Connection refused" in line
    assert "DATABASE_URL" in line
    assert "hush" not in line


@pytest.mark.embedded
def test_an_unreachable_redis_is_one_line_without_the_password(storage: Storage, backends: Backends) -> None:
    url = f"redis://:hush@127.0.0.1:{free_port()}/0"
    line = _refusal("runbus", env={**storage.env(), "SECRET_KEY": backends.secret_key, "REDIS_URL": url})
    assert "REDIS_URL" in line
    assert "hush" not in line


@pytest.mark.embedded
async def test_plain_daphne_serves_without_its_redis_and_says_so_in_one_line(
    start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    server = start_server("daphne", env={"REDIS_URL": f"redis://:hush@127.0.0.1:{free_port()}/0"}, wait=False)
    server.process.wait_for_log("event=layer_lost", deadline=30)
    server.process.wait_for_log("event=node_started")
    wait_until(lambda: server.get("/health")[0] == 200, "the server answers")
    # One process alone needs no notification: publishing and delivery go on, only /ready tells balancers of it.
    sender, member = await wire(server, room=f"{fresh_room}:a"), await wire(server, room=f"{fresh_room}:a")
    await sender.publish("hello", ack=True)
    await member.expect(message="hello")
    assert server.get("/ready")[0] == 503
    assert server.log().count("event=layer_lost") == 1
    # And the log has no line of ours for each probe.
    assert "Unavailable: /ready" not in server.log()
    assert "REDIS_URL" in server.log()
    assert "hush" not in server.log()


@pytest.mark.embedded
def test_several_workers_without_redis_are_refused(storage: Storage) -> None:
    assert "REDIS_URL" in _refusal("runbus", "--workers", "2", env={**storage.env(), "SECRET_KEY": "x" * 50})


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("env", "variable"),
    [
        ({"DEBUG": "0", "ALLOWED_HOSTS": "example.org"}, "SECRET_KEY"),
        ({"DEBUG": "0", "SECRET_KEY": "x" * 50}, "ALLOWED_HOSTS"),
        ({"DEBUG": "perhaps"}, "DEBUG"),
        ({"DATABASE_URL": "mysql://h/x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "nonsense://bus:hush@host/x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgres://"}, "DATABASE_URL"),
        ({"REDIS_PREFIX": ""}, "REDIS_PREFIX"),
        ({"REDIS_EXPIRY": "9" * 14}, "REDIS_EXPIRY"),
        ({"ALLOWED_HOSTS": "https://bus.example.com"}, "ALLOWED_HOSTS"),
        ({"CSRF_TRUSTED_ORIGINS": "bus.example.com"}, "CSRF_TRUSTED_ORIGINS"),
        ({"ARQONBUS_RING": "many"}, "ARQONBUS_RING"),
        ({"ARQONBUS_LOG_FORMAT": "xml"}, "ARQONBUS_LOG_FORMAT"),
        ({"ARQONBUS_LOG_LEVEL": "LOUD"}, "ARQONBUS_LOG_LEVEL"),
        ({"HSTS_SECONDS": "long", "DEBUG": "0", "SECRET_KEY": "x" * 50, "ALLOWED_HOSTS": "h"}, "HSTS_SECONDS"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_are_one_line_with_the_variable_s_name(env: dict[str, str], variable: str) -> None:
    line = _refusal("check", env=env)
    assert re.search(rf"\b{variable}\b", line)
    assert "hush" not in line


@pytest.mark.embedded
@pytest.mark.parametrize("door", [*DOORS, "runbus"])
def test_every_way_to_start_says_in_one_line_which_setting_is_wrong(door: str) -> None:
    assert (
        _refusal(door, env={"ARQONBUS_RING": "many"})
        == "ARQONBUS_RING is 'many'; it must be a whole number, at least 1."
    )


@pytest.mark.embedded
def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "development.key").mkdir()
    line = _refusal("check", env={"DATABASE_URL": f"sqlite:///{tmp_path}/bus.sqlite3"})
    assert "Make the folder writable, or set SECRET_KEY" in line


@pytest.mark.embedded
def test_a_database_in_a_folder_that_is_not_there_is_one_line_and_nothing_is_made(tmp_path: Path) -> None:
    line = _refusal("runbus", env={"DATABASE_URL": f"sqlite:///{tmp_path}/typo/bus.sqlite3"})
    assert line == f"DATABASE_URL names a file in {tmp_path}/typo. There is no such folder."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.embedded
async def test_a_new_sqlite_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "bus.sqlite3"
    run_manage("migrate", "--verbosity=0", env=clean_environment({"DATABASE_URL": f"sqlite:///{path}"}))
    files = sorted(path.parent.iterdir())
    assert {"bus.sqlite3", "development.key"} <= {file.name for file in files}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.embedded
def test_a_second_server_on_a_database_without_redis_is_refused_and_told_of(
    start_server: StartServer, storage: Storage, backends: Backends
) -> None:
    first = start_server("daphne")
    first.process.wait_for_log("event=node_started")
    env = {**storage.env(), "SECRET_KEY": backends.secret_key}
    line = _refusal("runbus", "--port", str(free_port()), "--telemetry-port", "0", env=env)
    assert f"process {first.pid} on " in line
    assert "REDIS_URL" in line
    # The servers' own commands cannot be kept from starting: they say it.
    second = start_server("daphne")
    second.process.wait_for_log("event=not_alone")
    # One that was killed is nobody's neighbour, however young its last sign of life is.
    second.kill()
    first.kill()
    third = start_server("runbus")
    third.process.wait_for_log("event=node_started")
    assert "event=not_alone" not in third.log()


@pytest.mark.embedded
@pytest.mark.needs("make")
async def test_make_run_and_make_admin_do_what_they_say(wire: Connect, tmp_path: Path) -> None:
    port, telemetry_port = free_port(), free_port()
    env = clean_environment({"DATABASE_URL": f"sqlite:///{tmp_path}/bus.sqlite3"})
    # As a second run: the packages are there, so their stamp files are taken as old enough.
    make = ["make", "--old-file=.venv/.installed-run", f"PORT={port}", f"TELEMETRY_PORT={telemetry_port}"]
    server = ManagedProcess([*make, "run"], log_path=tmp_path / "make.log", env=env, cwd=PROJECT_ROOT)
    server.start()
    try:
        server.wait_for_log(f"http://localhost:{port}/admin/", deadline=60)
        assert "created room science" in server.log()
        assert f"ws://localhost:{telemetry_port}/" in server.log()
        made = await asyncio.to_thread(
            subprocess.run, [*make, "admin"], env=env, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60
        )
        assert made.returncode == 0, made.stderr
        shown = dict(line.split(":", 1) for line in made.stdout.splitlines() if ":" in line)
        token = shown["Access token"].strip()
        assert shown["User"].strip() == "admin"
        assert shown["Password"].strip()
        client = await wire(f"ws://127.0.0.1:{port}/", token=token)
        assert client.registered["role"] == "admin"
        # A second time is for a forgotten password. It leaves one token, not one more that is good for ever.
        again = await asyncio.to_thread(
            subprocess.run, [*make, "admin"], env=env, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60
        )
        assert again.returncode == 0, again.stderr
        assert await client.wait_closed() == 4403
        assert "The user already exists" in again.stdout
    finally:
        server.kill()


@pytest.mark.embedded
def test_many_that_come_at_once_wait_their_turn(shared_server: BusServer) -> None:
    # While the process is busy with the first ones; Twisted by itself lets 50 wait, and a proxy would take it for dead.
    came: list[socket.socket] = []
    shared_server.freeze()
    try:
        came += [socket.create_connection((shared_server.host, shared_server.port), timeout=20) for _ in range(300)]
    finally:
        shared_server.thaw()
        for each in came:
            each.close()
    assert len(came) == 300
