"""Starting: four commands, one server."""

from __future__ import annotations

import asyncio
import socket
import stat
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from bus._speed import PATH
from tests.conftest import Connect, StartServer
from tests.harness.backends import clean_environment, run_manage
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import KINDS, BusServer, ServerKind
from tests.harness.waiting import free_port, wait_until


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


@pytest.mark.embedded
@pytest.mark.skipif(find_spec("uvloop") is None, reason="needs uvloop")
@pytest.mark.parametrize("kind", ["daphne", pytest.param("runbus", marks=pytest.mark.chaos)])
async def test_daphne_runs_on_uvloop(
    start_server: StartServer, wire: Connect, kind: ServerKind, fresh_room: str
) -> None:
    server = start_server(kind, env={"ARQONBUS_LOOP": "uvloop"})
    server.process.wait_for_log("event=node_started")
    here, there = await wire(server.url, room=f"{fresh_room}:a"), await wire(server.url, room=f"{fresh_room}:a")
    text = "x" * 200_000  # More than the socket takes at once, so the rest waits for the loop's writer.
    await here.publish(payload={"text": text}, ack=True)
    assert (await there.expect(type="event"))["payload"]["text"] == text
    assert await asyncio.to_thread(server.terminate) == 0
    assert {await here.wait_closed(), await there.wait_closed()} == {4012}
    (line,) = [line for line in server.log().splitlines() if "event=node_started" in line]
    assert "loop=uvloop" in line
    assert f"path={PATH}" in line
    for word in ("Traceback", "selftest", "loop_not_used"):
        assert word not in server.log()


def _assert_start_up_lines(server: BusServer) -> None:
    """They say where everything is, and how to become admin."""
    base = f"127.0.0.1:{server.port}"
    for text in (
        f"http://{base}/\n",
        f"ws://{base}/",
        f"ws://127.0.0.1:{server.telemetry_port}/",
        f"http://{base}/api/docs/",
        f"http://{base}/admin/",
        f"  Path        {PATH}",
        "make admin",
    ):
        assert text in server.log()


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
async def test_a_new_sqlite_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "bus.sqlite3"
    run_manage("migrate", "--verbosity=0", env=clean_environment({"DATABASE_URL": f"sqlite:///{path}"}))
    files = sorted(path.parent.iterdir())
    assert {"bus.sqlite3", "development.key"} <= {file.name for file in files}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


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
