"""What is checked before a server starts: each failure is one line that says what to do."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from bus.servers import preflight
from bus.services import nodes
from tests.conftest import StartServer
from tests.harness.backends import Backends, Storage, clean_environment
from tests.harness.processes import PROJECT_ROOT
from tests.harness.waiting import free_port, wait_until


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


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


@contextmanager
def _neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this machine, which the database knows as one that serves the bus."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        try:
            nodes.started("neighbour", "here", process.pid, "1")
            yield process
        finally:
            process.kill()


@pytest.mark.embedded
@pytest.mark.django_db
def test_a_killed_process_that_nobody_waited_for_is_nobody_s_neighbour() -> None:
    with _neighbour() as process:
        assert nodes.others() == [f"process {process.pid} on here"]
        process.kill()
        wait_until(lambda: not nodes.others(), "the killed process is gone")
        assert Path(f"/proc/{process.pid}").exists()  # a zombie: only this test could wait for it


@pytest.mark.embedded
@pytest.mark.django_db
def test_a_server_waits_for_the_end_of_the_one_before_it() -> None:
    looks = 0

    def end_at_the_second_look(execute: Any, sql: str, *arguments: Any) -> Any:
        nonlocal looks
        if "node" in sql:
            looks += 1
            if looks == 2:
                process.kill()
        return execute(sql, *arguments)

    with _neighbour() as process, connection.execute_wrapper(end_at_the_second_look):
        preflight.check_alone()
    assert looks >= 2
