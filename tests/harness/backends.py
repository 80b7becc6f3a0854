"""Which database and which Redis the tests use, and a fresh copy of a migrated database for each server.

`embedded` is what a newcomer gets: SQLite and the in-memory layer. `cluster` is PostgreSQL and Redis, real
ones. Tests that run inside this process use those of DATABASE_URL and REDIS_URL if set, else servers of
this session; the server processes that tests start always get a database and a Redis of their own, so that
tests do not hear one another.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bus._speed import SWITCH
from tests.harness.postgres import PostgresServer
from tests.harness.processes import PROJECT_ROOT, guardian
from tests.harness.redis import RedisServer

BackendName = Literal["embedded", "cluster"]
BACKENDS: tuple[BackendName, ...] = ("embedded", "cluster")

_SHARED_POSTGRES = "ARQONBUS_TEST_POSTGRES_PORT"


def clean_environment(overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a server process: this one's without anything that configures Django or the bus.

    Only the choice of the path stays, so that all tests can run on either.
    """
    unwanted = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "DJANGO_SETTINGS_MODULE"}
    env = {
        key: value
        for key, value in os.environ.items()
        if key == SWITCH or (key not in unwanted and not key.startswith(("ARQONBUS_", "PYTEST_", "COV_")))
    }
    env.update({"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(PROJECT_ROOT)})
    env.update(overrides or {})
    return env


def run_manage(*arguments: str, env: Mapping[str, str], timeout: float = 120.0) -> str:
    """Run `manage.py`; its standard output. Raises AssertionError with all output if it fails."""
    result = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env=dict(env),
        cwd=PROJECT_ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if result.returncode:
        raise AssertionError(
            f"manage.py {' '.join(arguments)} ended with {result.returncode}\n{result.stdout}\n{result.stderr}"
        )
    return result.stdout


@dataclass(frozen=True)
class Storage:
    """One database, and for a cluster one Redis, that belong to a test alone."""

    database_url: str
    redis: RedisServer | None = None
    postgres: PostgresServer | None = None
    database: str | None = None
    """The database's name in PostgreSQL, or None for SQLite."""

    @property
    def redis_url(self) -> str | None:
        """REDIS_URL, or None for the in-memory layer."""
        return None if self.redis is None else self.redis.url

    @property
    def sqlite_path(self) -> Path | None:
        """The SQLite file, or None for PostgreSQL."""
        prefix = "sqlite:///"
        return Path(self.database_url.removeprefix(prefix)) if self.database_url.startswith(prefix) else None

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database, or change it, behind the servers' backs. The rows of the answer."""
        path = self.sqlite_path
        if path is None:
            assert self.postgres is not None
            assert self.database is not None
            return self.postgres.execute(statement, self.database)
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            return connection.execute(statement).fetchall()

    def env(self) -> dict[str, str]:
        """The variables a server process needs to use this storage."""
        env = {"DATABASE_URL": self.database_url}
        if self.redis is not None:
            env["REDIS_URL"] = self.redis.url
        return env


@dataclass
class Backends:
    """The session's servers and templates. Everything is made on first use and removed by `close`."""

    name: BackendName
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(40), repr=False)
    _counter: itertools.count[int] = field(default_factory=itertools.count)
    _started: list[RedisServer | PostgresServer] = field(default_factory=list)

    @cached_property
    def folder(self) -> Path:
        """The session's temporary folder. Others may pass through it (PostgreSQL does not run as root)."""
        folder = Path(tempfile.mkdtemp(prefix="arqonbus-tests-"))
        folder.chmod(0o755)
        guardian.remove_at_end(folder)
        return folder

    def new_path(self, stem: str) -> Path:
        """A path in the session's folder that was never used before."""
        return self.folder / f"{stem}-{os.getpid()}-{next(self._counter)}"

    @cached_property
    def postgres(self) -> PostgresServer:
        """The session's PostgreSQL. Tests that hurt a server use `new_postgres`."""
        port = os.environ.get(_SHARED_POSTGRES)
        if port is not None:  # this is an xdist worker, and the controller has started one
            return PostgresServer(self.new_path("postgres"), port=int(port))
        server = self.new_postgres()
        os.environ[_SHARED_POSTGRES] = str(server.port)
        return server

    @cached_property
    def redis(self) -> RedisServer:
        """The Redis of the tests that run in this process."""
        return self.new_redis()

    def new_postgres(self) -> PostgresServer:
        """A running PostgreSQL of its own, to be hurt. About a second."""
        server = PostgresServer(self.new_path("postgres"))
        self._started.append(server)
        server.start()
        return server

    def new_redis(self) -> RedisServer:
        """A running Redis of its own, to be hurt. Some hundredths of a second."""
        server = RedisServer(self.new_path("redis"))
        self._started.append(server)
        server.start()
        return server

    def release(self, server: RedisServer | PostgresServer) -> None:
        """End a server made by `new_redis` or `new_postgres` before the session ends, frozen or not."""
        server.kill()
        self._started.remove(server)

    def prepare_process(self) -> None:
        """Set this process's environment so that `arqonbus_site.settings` chooses the back end.

        Called before Django's settings are read. SECRET_KEY is set too, so that nothing is written beside
        the code.
        """
        os.environ["SECRET_KEY"] = self.secret_key
        if self.name == "embedded":
            os.environ["DATABASE_URL"] = f"sqlite:///{self.new_path('process')}.sqlite3"
            os.environ.pop("REDIS_URL", None)
            return
        if not os.environ.get("DATABASE_URL") or _SHARED_POSTGRES in os.environ:
            os.environ["DATABASE_URL"] = self.postgres.url("arqonbus")
        if not os.environ.get("REDIS_URL") or "PYTEST_XDIST_WORKER" in os.environ:
            os.environ["REDIS_URL"] = self.redis.url

    @cached_property
    def _sqlite_template(self) -> Path:
        path = self.new_path("template").with_suffix(".sqlite3")
        self._build(f"sqlite:///{path}")
        # One file, without a write-ahead log beside it, so that a copy of the file is a copy of the database.
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return path

    @cached_property
    def _postgres_template(self) -> str:
        return self._template_in(self.postgres)

    def _template_in(self, server: PostgresServer) -> str:
        name = f"template_{secrets.token_hex(4)}"
        self._build(server.create_database(name))
        return name

    def _build(self, database_url: str) -> None:
        env = clean_environment({"DATABASE_URL": database_url, "SECRET_KEY": self.secret_key})
        run_manage("migrate", "--verbosity", "0", env=env)
        run_manage("seed_science_rooms", env=env)

    def new_storage(self, *, own_postgres: bool = False) -> Storage:
        """A migrated and seeded database (and Redis, in a cluster) for one test.

        With `own_postgres` the PostgreSQL server itself belongs to the test, which may then stop or kill it.
        """
        if self.name == "embedded":
            path = self.new_path("server").with_suffix(".sqlite3")
            shutil.copyfile(self._sqlite_template, path)
            return Storage(f"sqlite:///{path}")
        name = f"server_{secrets.token_hex(4)}"
        if own_postgres:
            server = self.new_postgres()
            self._build(server.create_database(name))
            url = server.url(name)
        else:
            server = self.postgres
            url = server.create_database(name, template=self._postgres_template)
        return Storage(url, self.new_redis(), server, name)

    def drop_storage(self, storage: Storage) -> None:
        """Remove what `new_storage` made."""
        path = storage.sqlite_path
        if path is not None:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        if storage.redis is not None:
            self.release(storage.redis)
        if storage.postgres is not None and storage.database is not None:
            if storage.postgres in self._started and storage.postgres is not self.__dict__.get("postgres"):
                self.release(storage.postgres)
            else:
                storage.postgres.drop_database(storage.database)

    def close(self) -> None:
        """End every server of the session and remove its folder."""
        for server in reversed(self._started):
            server.kill()
        self._started.clear()
        if "folder" in self.__dict__:
            shutil.rmtree(self.folder, ignore_errors=True)
