"""Start, pin and stop the measured servers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine

ROOT = Path(__file__).resolve().parent.parent


class ServerError(Exception):
    """A server did not start. The text has the end of its log."""


@dataclass
class Server:
    """One running server process on the servers' core."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    log: Path
    extra: dict[str, str] = field(default_factory=dict)
    #: Servers that this one needs. They end with it.
    needs: list[Server] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def stop(self) -> None:
        """Stop the process: SIGTERM, and SIGKILL after ten seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        for other in self.needs:
            other.stop()

    def kill(self) -> None:
        """Kill the process at once."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
        for other in self.needs:
            other.kill()


def start(
    argv: list[str],
    folder: Path,
    port: int,
    *,
    env: dict[str, str] | None = None,
    deadline: float = 30.0,
    user: str | None = None,
) -> Server:
    """Start ``argv`` on the servers' core, and wait until ``port`` of the loopback accepts connections.

    Raises :class:`ServerError` if the process ends or stays silent.
    """
    core, _ = machine.cores()
    log = folder / "server.log"

    def pin() -> None:
        os.sched_setaffinity(0, core)

    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=ROOT if user is None else "/",
            env=env,
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=pin,
        )
    server = Server(process, port, folder, log)
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return server
        time.sleep(0.05)
    server.kill()
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise ServerError(f"{argv[0]} did not listen on port {port}:\n{tail}")
