"""`BusServer`: one ArqonBus process on free ports, started the way an operator starts it."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tests.harness.backends import Storage, clean_environment
from tests.harness.processes import ManagedProcess
from tests.harness.waiting import DeadlineExceededError, free_port, wait_until

ServerKind = Literal["daphne", "runbus", "uvicorn", "websocket_bus", "granian", "hypercorn"]
KINDS: tuple[ServerKind, ...] = ("daphne", "runbus", "uvicorn", "websocket_bus")

#: Of every Django user that the tests make for the pages of a server.
PASSWORD = "a long enough pass phrase"

APPLICATION = "arqonbus_site.asgi:application"

# Most tests are not about the limit of rate; those that are set it themselves.
DEFAULT_ENV = {"ARQONBUS_RATE_LIMIT": "0", "ALLOWED_HOSTS": "localhost,127.0.0.1"}


class BusServer:
    """A server process with its own ports, log and environment.

    `kind` is the command: plain `daphne`, `manage.py runbus` (a telemetry port of its own), `uvicorn`, `granian`, `hypercorn`,
    or `python websocket_bus.py`. Several servers with one `storage` are a cluster. `arguments` are added to the
    command line, `env` to the environment (`ARQONBUS_…` settings as text).
    """

    def __init__(
        self,
        storage: Storage,
        folder: Path,
        *,
        secret_key: str,
        kind: ServerKind = "daphne",
        env: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        host: str = "127.0.0.1",
    ) -> None:
        self.storage = storage
        self.kind = kind
        self.host = host
        self.port = free_port(host)
        self.telemetry_port = free_port(host) if kind in ("runbus", "websocket_bus") else None
        folder.mkdir(parents=True, exist_ok=True)
        self.process = ManagedProcess(
            [*self._command(), *arguments],
            log_path=folder / f"{kind}-{self.port}.log",
            env=clean_environment({**DEFAULT_ENV, "SECRET_KEY": secret_key, **storage.env(), **(env or {})}),
        )

    def _command(self) -> list[str]:
        port = str(self.port)
        if self.kind == "daphne":
            return [sys.executable, "-m", "daphne", "-b", self.host, "-p", port, APPLICATION]
        if self.kind == "uvicorn":
            return [sys.executable, "-m", "uvicorn", APPLICATION, "--host", self.host, "--port", port]
        if self.kind == "granian":
            address = ["--host", self.host, "--port", port]
            return [sys.executable, "-m", "granian", "--interface", "asgi", *address, APPLICATION]
        if self.kind == "hypercorn":
            return [sys.executable, "-m", "hypercorn", "--bind", f"{self.host}:{port}", APPLICATION]
        program = ["manage.py", "runbus"] if self.kind == "runbus" else ["websocket_bus.py"]
        ports = ["--host", self.host, "--port", port, "--telemetry-port", str(self.telemetry_port)]
        return [sys.executable, *program, *ports]

    @property
    def url(self) -> str:
        """The bus socket."""
        return f"ws://{self.host}:{self.port}/"

    @property
    def telemetry_url(self) -> str:
        """The telemetry socket: its own port where the command opens one, else the path on the bus's port."""
        if self.telemetry_port is not None:
            return f"ws://{self.host}:{self.telemetry_port}/"
        return f"ws://{self.host}:{self.port}/telemetry/"

    @property
    def http_url(self) -> str:
        """The web pages and REST, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    @property
    def secret_key(self) -> str:
        """The SECRET_KEY it runs with, for tests that forge what it signs."""
        return self.process.env["SECRET_KEY"]

    # Life

    def start(self, deadline: float = 60.0) -> BusServer:
        """Start and wait until `/ready` answers 200. Raises AssertionError with the log if it does not."""
        self.spawn()
        try:
            self.wait_ready(deadline)
        except BaseException:
            self.process.kill()
            raise
        return self

    def spawn(self) -> None:
        """Start without waiting, for tests of servers that cannot become ready."""
        self.process.start()

    def wait_ready(self, deadline: float = 60.0) -> None:
        """Wait until `/ready` answers 200. Else AssertionError with the end of the log."""
        try:
            wait_until(self._ready_or_ended, f"{self.kind} is ready on port {self.port}", deadline=deadline)
        except DeadlineExceededError as error:
            raise AssertionError(f"{error}\n{self.process.log_tail()}") from None
        if not self.process.alive:
            raise AssertionError(f"{self.kind} ended with {self.process.exit_code}\n{self.process.log_tail()}")

    def _ready_or_ended(self) -> bool:
        return not self.process.alive or self.ready()

    def ready(self) -> bool:
        """Whether `/ready` answers 200 at this moment."""
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL it with its workers: nothing is said to anybody."""
        self.process.kill()

    def terminate(self, timeout: float = 20.0) -> int:
        """SIGTERM it and return the exit code; AssertionError if it does not end in time."""
        return self.process.terminate(timeout)

    def restart(self, *, graceful: bool = False) -> None:
        """End it (SIGKILL, or SIGTERM when graceful) and start it again on the same ports and storage."""
        if graceful:
            self.terminate()
        else:
            self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open and nothing answers."""
        self.process.freeze()

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        self.process.thaw()

    # What it tells

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.alive

    @property
    def pid(self) -> int:
        """The process id of the (parent) process."""
        return self.process.pid

    def log(self) -> str:
        """Everything it has logged, over all its starts."""
        return self.process.log()

    def rss(self) -> int:
        """Resident memory with its workers, in bytes."""
        return self.process.rss()

    def cpu_seconds(self) -> float:
        """CPU time with its workers since its start, in seconds."""
        return self.process.cpu_seconds()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """GET a path: (status, body), also for errors. Raises OSError when nobody answers within 5 s."""
        return self.request("GET", path, headers=headers)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One HTTP request with a JSON body: (status, body), also for errors. Raises OSError."""
        return http_request(self.http_url + path, method, body, headers)

    def get_json(self, path: str, headers: Mapping[str, str] | None = None) -> Any:
        """GET a path that must answer 200 with JSON."""
        status, body = self.get(path, headers)
        assert status == 200, f"GET {path} answered {status}: {body[:500]!r}"
        return json.loads(body)

    def manage(self, *arguments: str) -> str:
        """Run a `manage.py` command with this server's environment; its standard output."""
        from tests.harness.backends import run_manage

        return run_manage(*arguments, env=self.process.env)

    def create_token(self, name: str, *, admin: bool = False) -> str:
        """An access token, as `manage.py create_token` makes it but for the audit log, and without its second of time."""
        secret = f"arq_tok_{secrets.token_urlsafe(32)}"
        digest = hashlib.sha256(secret.encode()).hexdigest()
        self.storage.execute(
            "INSERT INTO bus_accesstoken (name, prefix, digest, admin, scopes, created_at)"
            f" VALUES ('{name}', '{secret[:12]}', '{digest}', {admin}, '[]', CURRENT_TIMESTAMP)"
        )
        return secret

    def create_superuser(self, name: str) -> None:
        """Make a Django superuser with the password PASSWORD."""
        self.manage(
            *("shell", "--verbosity", "0", "--command"),
            "from django.contrib.auth import get_user_model; "
            f"get_user_model().objects.create_superuser({name!r}, '', {PASSWORD!r})",
        )


def http_request(
    url: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """One HTTP request with a JSON body: (status, body), also for errors. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
