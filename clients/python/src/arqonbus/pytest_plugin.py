"""pytest plugin: a real ArqonBus server for your tests, on a free port with an empty database.

Fixtures:

``arqonbus_server`` (session)  the running server: ``url``, ``http_url``, ``kill()``, ``stop()``, ``start()``, ``log()``
``arqonbus_url`` (session)     the URL of its socket, or of ``--arqonbus-url``
``arqonbus_bus``               a connected :class:`arqonbus.sync.Bus`, closed after the test

Options (also in the ini file, with ``_``): ``--arqonbus-url`` uses a running server, such as one in a container.
``--arqonbus-project`` is the folder of an ArqonBus checkout or of your own project. ``--arqonbus-asgi`` is its application
(default ``arqonbus_site.asgi:application``), and ``--arqonbus-settings`` its settings (``arqonbus_site.settings``).
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import sync
from .errors import ArqonBusError

OPTIONS = {
    "arqonbus_url": ("", "URL of a running server; the session then starts none"),
    "arqonbus_project": ("", "folder of the server's project; by default the installed server is used"),
    "arqonbus_asgi": ("arqonbus_site.asgi:application", "ASGI application of the server"),
    "arqonbus_settings": ("arqonbus_site.settings", "Django settings of the server"),
}
#: How long to wait for the server's start, in seconds.
PATIENCE = 60.0


class Server:
    """A server process with its own SQLite database. A test may kill it and start it again on the same port."""

    def __init__(self, folder: Path, project: Path | None, asgi: str, settings: str) -> None:
        self._folder = folder
        self._project = project
        self._asgi = asgi
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self._environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{folder / 'arqonbus.sqlite3'}",
            "DJANGO_SETTINGS_MODULE": settings,
            "SECRET_KEY": secrets.token_urlsafe(40),
            "ARQONBUS_ANONYMOUS": "1",
            "ARQONBUS_RATE_LIMIT": "0",
            "DEBUG": "1",
        }
        self._environment.pop("REDIS_URL", None)
        if project is not None:
            path = os.environ.get("PYTHONPATH")
            self._environment["PYTHONPATH"] = f"{project}{os.pathsep}{path}" if path else str(project)

    @property
    def url(self) -> str:
        """The URL of the bus socket."""
        return f"ws://127.0.0.1:{self.port}/"

    @property
    def http_url(self) -> str:
        """The URL of the pages and REST, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Server:
        """Start the server and wait until it answers. Raises ``RuntimeError`` with its log if it does not."""
        self._run("-m", "django", "migrate", "--verbosity", "0")
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port), self._asgi],
                env=self._environment,
                cwd=self._project,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            sync.connect(self.url, wait=PATIENCE).close()
        except ArqonBusError as problem:
            self.kill()
            raise RuntimeError(f"The bus did not start: {problem}\n{self.log()[-4000:]}") from None
        return self

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603 - as above
            [sys.executable, *arguments], env=self._environment, cwd=self._project, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")

    def stop(self, timeout: float = 20.0) -> int | None:
        """Stop the server gracefully (SIGTERM). Returns its exit code, or None if it did not run."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the server (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def log(self) -> str:
        """Return the log of the server."""
        try:
            return (self._folder / "server.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options to the command line and the ini file."""
    group = parser.getgroup("arqonbus client")
    for name, (default, text) in OPTIONS.items():
        group.addoption(f"--{name.replace('_', '-')}", dest=name, default=None, help=text)
        parser.addini(name, text, default=default)


def _option(config: pytest.Config, name: str) -> str:
    return str(config.getoption(name) or config.getini(name))


@pytest.fixture(scope="session")
def arqonbus_server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a real server for the session."""
    asgi = _option(pytestconfig, "arqonbus_asgi")
    folder = _option(pytestconfig, "arqonbus_project")
    project = Path(folder).resolve() if folder else None
    package = asgi.partition(":")[0].partition(".")[0]
    if project is None and importlib.util.find_spec(package) is None:
        raise pytest.UsageError(
            f"There is no {package!r} to start. Install the server (pip install FOLDER of an ArqonBus checkout). Or use "
            "--arqonbus-project=FOLDER (the checkout, or your own project), or --arqonbus-url=ws://HOST:PORT/ of a server "
            "that runs."
        )
    server = Server(tmp_path_factory.mktemp("arqonbus"), project, asgi, _option(pytestconfig, "arqonbus_settings"))
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="session")
def arqonbus_url(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> str:
    """Return the URL of the bus."""
    given = _option(pytestconfig, "arqonbus_url")
    if given:
        return given
    server: Server = request.getfixturevalue("arqonbus_server")
    return server.url


@pytest.fixture
def arqonbus_bus(arqonbus_url: str) -> Iterator[sync.Bus]:
    """Return a connected client."""
    with sync.connect(arqonbus_url, client_type="test") as bus:
        yield bus
