"""Clients and command lines, by default against the session's shared server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

import arqonbus
from arqonbus import sync
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

CLIENT_SOURCE = PROJECT_ROOT / "clients" / "python" / "src"


class Connect(Protocol):
    """Connects a client; closed at the end of the test."""

    async def __call__(self, server: BusServer | None = None, **options: Any) -> arqonbus.Bus: ...


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Connect clients, by default to the session's server."""
    async with AsyncExitStack() as stack:

        async def connect(server: BusServer | None = None, **options: Any) -> arqonbus.Bus:
            url = (server or request.getfixturevalue("shared_server")).url
            return await stack.enter_async_context(arqonbus.connect(url, **options))

        yield connect


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


def start_cli(
    *arguments: str, env: dict[str, str], stdin: int = subprocess.DEVNULL, **options: Any
) -> subprocess.Popen[str]:
    """Start `python -m arqonbus` with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "arqonbus", *arguments],
        env=env,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def cli(shared_server: BusServer, tmp_path: Path) -> Cli:
    """Run `python -m arqonbus …` against the session's server and wait for its end."""

    def run(
        *arguments: str, stdin: str = "", server: BusServer | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "arqonbus", *arguments],
            env=client_environment(server or shared_server, **env),
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def speaker(shared_server: BusServer) -> Iterator[sync.Bus]:
    """A client that says things to the command line."""
    with sync.connect(shared_server.url) as bus:
        yield bus
