"""Node as a client: started with one scenario of scenarios.mjs, heard line by line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Protocol

import pytest

from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

SCENARIOS = Path(__file__).with_name("scenarios.mjs")


def node_flags() -> list[str]:
    """Node 20 and 21 have a WebSocket of their own behind a flag only."""
    major = int(
        subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout[1:].split(".")[0]
    )
    return ["--experimental-websocket", "--no-warnings"] if major < 22 else ["--no-warnings"]


class Node:
    """A running scenario."""

    def __init__(self, name: str, url: str, env: Mapping[str, str], **given: Any) -> None:
        self._name = name
        self._process = subprocess.Popen(
            ["node", *node_flags(), str(SCENARIOS), name, url, json.dumps(given)],
            cwd=PROJECT_ROOT,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: Queue[dict[str, Any] | None] = Queue()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read, self._listen)]
        self._errors = ""
        #: What was passed over while another event was awaited.
        self.seen: list[dict[str, Any]] = []
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        self._errors = self._process.stderr.read()

    def expect(self, event: str, deadline: float = 45.0) -> dict[str, Any]:
        """The next event of that name. Raises AssertionError with what node said when it ends or is late."""
        while True:
            try:
                line = self._lines.get(timeout=deadline)
            except Empty:
                raise AssertionError(f"{self._name}: no {event!r} within {deadline:g} s; seen: {self.seen}") from None
            if line is None:
                self._process.wait(timeout=20)
                self._threads[1].join(timeout=20)
                raise AssertionError(f"{self._name} ended before {event!r}; seen: {self.seen}\n{self._errors}")
            if line["event"] == event:
                return line
            self.seen.append(line)

    def tell(self, line: str) -> None:
        """Say something to a scenario that listens."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Wait for its end, which must be a good one."""
        code = self._process.wait(timeout=20)
        self._threads[1].join(timeout=20)
        assert code == 0, self._errors

    @property
    def errors(self) -> str:
        """What it said on standard error, once it has ended."""
        return self._errors

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(timeout=20)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Run(Protocol):
    """Starts a scenario; ended at the end of the test."""

    def __call__(
        self, name: str, server: BusServer | str, env: Mapping[str, str] | None = None, **given: Any
    ) -> Node: ...


@pytest.fixture
def node() -> Iterator[Run]:
    """Start scenarios."""
    started: list[Node] = []

    def start(name: str, server: BusServer | str, env: Mapping[str, str] | None = None, **given: Any) -> Node:
        made = Node(name, server if isinstance(server, str) else server.url, env or {}, **given)
        started.append(made)
        return made

    yield start
    for each in started:
        each.kill()
