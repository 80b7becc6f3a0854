"""The back ends of the harness really start, fail on request, come back, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.harness.backends import Backends, clean_environment
from tests.harness.postgres import PostgresServer
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.redis import RedisServer
from tests.harness.waiting import DeadlineExceededError, free_port, wait_until

pytestmark = pytest.mark.pure


def test_redis_answers_forgets_on_restart_and_ends(redis_server: RedisServer) -> None:
    """A restarted Redis listens on the same port and is empty, as ours keeps nothing on disk."""
    assert redis_server.command("SET", "key", "value") == b"+OK\r\n"
    redis_server.restart()
    assert redis_server.command("GET", "key") == b"$-1\r\n"
    redis_server.kill()
    with pytest.raises(OSError, match="refused"):
        redis_server.command("PING")
    redis_server.start()
    assert redis_server.command("PING") == b"+PONG\r\n"


def test_redis_frozen_is_silent_and_goes_on_after_thaw(redis_server: RedisServer) -> None:
    """A frozen Redis keeps its port but answers nothing until it is thawed."""
    redis_server.freeze()
    statuses = {psutil.Process(redis_server.process.pid).status()}
    redis_server.thaw()
    assert statuses == {psutil.STATUS_STOPPED}
    assert redis_server.command("PING") == b"+PONG\r\n"


def test_postgres_keeps_committed_rows_over_kill_and_restart(postgres_server: PostgresServer) -> None:
    """What was committed before a SIGKILL is there after the next start."""
    postgres_server.execute("CREATE TABLE kept (number integer)")
    postgres_server.execute("INSERT INTO kept VALUES (1)")
    postgres_server.kill()
    assert not postgres_server.answers()
    postgres_server.start()
    postgres_server.execute("INSERT INTO kept VALUES (2)")
    postgres_server.restart()
    assert postgres_server.execute("SELECT number FROM kept ORDER BY number") == [(1,), (2,)]


def test_postgres_copies_a_template_and_cuts_connections(postgres_server: PostgresServer) -> None:
    """A database made from a template has its rows; cutting connections is felt by a client."""
    postgres_server.create_database("original")
    postgres_server.execute("CREATE TABLE colours AS SELECT 'red' AS name", database="original")
    url = postgres_server.create_database("copy", template="original")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT name FROM colours").fetchall() == [("red",)]
        assert postgres_server.connection_count("copy") == 1
        assert postgres_server.cut_connections("copy") == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    postgres_server.drop_database("copy")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_process_is_measured_and_its_exit_code_told(backends: Backends) -> None:
    """Memory and CPU of a process are those of the system's accounting; SIGTERM's exit code is handed out."""
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "while time.process_time() < 0.05: pass\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )
    process = ManagedProcess([sys.executable, "-c", program], log_path=backends.new_path("program"))
    process.start()
    process.wait_for_log("up")
    assert process.rss() > 1_000_000
    assert process.cpu_seconds() >= 0.03
    assert process.terminate(number=signal.SIGTERM) == 7
    assert not process.alive
    assert process.rss() == 0


def test_terminate_fails_loudly_when_the_process_ignores_it(backends: Backends) -> None:
    """A process that ignores SIGTERM is killed, and the test that asked is told so with the log."""
    program = "import signal; signal.signal(15, signal.SIG_IGN); print('stubborn', flush=True); signal.pause()"
    process = ManagedProcess([sys.executable, "-c", program], log_path=backends.new_path("program"))
    process.start()
    process.wait_for_log("stubborn")
    with pytest.raises(AssertionError, match=r"did not end within 0\.2 s of SIGTERM[\s\S]*stubborn"):
        process.terminate(timeout=0.2)
    assert process.exit_code == -signal.SIGKILL


def test_nothing_survives_a_killed_test_session(tmp_path: Path) -> None:
    """The guardian ends the session's processes and removes its folder even after SIGKILL of the session."""
    program = (
        "import signal\n"
        "from tests.harness.backends import Backends\n"
        "backends = Backends('embedded')\n"
        "server = backends.new_redis()\n"
        "print(server.process.pid, backends.folder, flush=True)\n"
        "signal.pause()\n"
    )
    session = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=PROJECT_ROOT,
        env=clean_environment({"TMPDIR": str(tmp_path)}),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert session.stdout is not None
    with session.stdout:
        pid, folder = session.stdout.readline().split()
    assert psutil.pid_exists(int(pid))
    assert Path(folder).is_dir()
    session.kill()
    session.wait()
    wait_until(lambda: not _runs(int(pid)), "the session's Redis is gone", deadline=10)
    wait_until(lambda: not Path(folder).exists(), "the session's folder is gone", deadline=10)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_free_port_is_not_one_of_outgoing_connections() -> None:
    """Ports for servers lie outside the system's range for outgoing connections."""
    assert all(not 32768 <= free_port() <= 60999 for _ in range(50))


def test_waiting_ends_with_a_named_failure() -> None:
    """A wait that does not come true says what it waited for, and the last truth is handed out otherwise."""
    answers = iter([0, 0, 5])
    assert wait_until(lambda: next(answers), "a number") == 5
    before = time.monotonic()
    with pytest.raises(DeadlineExceededError, match="the impossible"):
        wait_until(lambda: False, "the impossible", deadline=0.05)
    assert time.monotonic() - before >= 0.05


def test_server_environment_is_free_of_the_callers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server under test is configured by the test alone, not by the shell that runs the tests."""
    monkeypatch.setenv("ARQONBUS_RATE_LIMIT", "1")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///elsewhere")
    env = clean_environment({"DEBUG": "0"})
    assert "ARQONBUS_RATE_LIMIT" not in env
    assert "DATABASE_URL" not in env
    assert env["DEBUG"] == "0"
    assert env["PATH"] == os.environ["PATH"]
