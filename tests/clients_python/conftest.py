"""A server of the session for tests that do not hurt it, and one of the test's own for those that do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

import arqonbus
from arqonbus import sync
from tests.harness.backends import Backends, Storage
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

CLIENT_SOURCE = PROJECT_ROOT / "clients" / "python" / "src"


def wait_until_up(server: BusServer, deadline: float = 60.0) -> None:
    """Wait until a client can register. Raises AssertionError with the server's log."""
    try:
        sync.connect(server.url, wait=deadline, client_type="probe").close()
    except arqonbus.ArqonBusError as problem:
        raise AssertionError(f"{problem}\n{server.process.log_tail()}") from None


@pytest.fixture(scope="session")
def bus_server(backends: Backends) -> Iterator[BusServer]:
    """One server for all tests that neither hurt it nor need settings of their own."""
    storage = backends.new_storage()
    server = BusServer(storage, backends.new_path("server"), secret_key=backends.secret_key)
    server.spawn()
    try:
        wait_until_up(server)
        yield server
    finally:
        server.kill()
        backends.drop_storage(storage)


class NewServer(Protocol):
    """Starts a server that belongs to the test."""

    def __call__(self, env: Mapping[str, str] | None = None) -> BusServer: ...


@pytest.fixture
def new_server(backends: Backends, storage: Storage) -> Iterator[NewServer]:
    """Start servers to be killed, stopped and started again; `env` are settings as text."""
    started: list[BusServer] = []

    def start(env: Mapping[str, str] | None = None) -> BusServer:
        server = BusServer(storage, backends.new_path("server"), secret_key=backends.secret_key, env=env)
        started.append(server)
        server.spawn()
        wait_until_up(server)
        return server

    yield start
    for server in started:
        server.kill()


class Connect(Protocol):
    """Connects a client; closed at the end of the test."""

    async def __call__(self, server: BusServer | None = None, **options: Any) -> arqonbus.Bus: ...


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Connect clients, by default to the session's server."""
    async with AsyncExitStack() as stack:

        async def connect(server: BusServer | None = None, **options: Any) -> arqonbus.Bus:
            url = (server or request.getfixturevalue("bus_server")).url
            return await stack.enter_async_context(arqonbus.connect(url, **options))

        yield connect


@pytest.fixture(scope="session")
def admin_token(bus_server: BusServer) -> str:
    """An admin's access token for the session's server."""
    return bus_server.create_token("client-tests", admin=True)


def client_environment(server: BusServer | None, **more: str) -> dict[str, str]:
    """The environment of a process that uses the client: finds the package, knows the server, has nothing else of the bus."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ARQONBUS_", "PYTEST_", "COV_"))}
    path = f"{CLIENT_SOURCE}{os.pathsep}{PROJECT_ROOT}"
    url = {} if server is None else {"ARQONBUS_URL": server.url}
    return {**kept, "PYTHONPATH": path, "COLUMNS": "120", "NO_COLOR": "1", **url, **more}


class Cli(Protocol):
    """Runs the command line as a process of its own."""

    def __call__(
        self, *arguments: str, stdin: str = "", server: BusServer | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]: ...


def start_cli(*arguments: str, env: dict[str, str], **options: Any) -> subprocess.Popen[str]:
    """Start `python -m arqonbus` with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "arqonbus", *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def cli(bus_server: BusServer, tmp_path: Path) -> Cli:
    """Run `python -m arqonbus …` against the session's server and wait for its end."""

    def run(
        *arguments: str, stdin: str = "", server: BusServer | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "arqonbus", *arguments],
            env=client_environment(server or bus_server, **env),
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run
