"""Real processes that tests start, hurt and measure, and that never outlive the test session."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.harness.waiting import wait_until

PROJECT_ROOT = Path(__file__).resolve().parents[2]

# Reads "+ pid", "- pid" and "dir PATH" lines. When the test session is gone, however it went (its end of the
# pipe closes even on SIGKILL), it kills what is left and removes the temporary directories.
_GUARDIAN_PROGRAM = """
import os, shutil, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pids, folders = set(), set()
for line in sys.stdin:
    word, _, rest = line.rstrip("\\n").partition(" ")
    if word == "+": pids.add(int(rest))
    elif word == "-": pids.discard(int(rest))
    elif word == "dir": folders.add(rest)
for pid in pids:
    for kill in (os.killpg, os.kill):
        try: kill(pid, signal.SIGKILL)
        except OSError: pass
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Guardian:
    """The session's safety net: a child process that cleans up after the session's death."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def _say(self, line: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _GUARDIAN_PROGRAM],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            atexit.register(self._close)
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _close(self) -> None:
        """Let the guardian do its work now; whatever is still registered was forgotten by a fixture."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait(timeout=30)

    def watch(self, pid: int) -> None:
        """Kill this process (group) at the end of the session."""
        self._say(f"+ {pid}")

    def forget(self, pid: int) -> None:
        """The process has ended, its number may be used by somebody else."""
        self._say(f"- {pid}")

    def remove_at_end(self, folder: Path) -> None:
        """Remove the folder at the end of the session."""
        self._say(f"dir {folder}")


guardian = Guardian()


def _runs(process: psutil.Process) -> bool:
    """Whether the process still does something, if only being stopped."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _suspended(process: psutil.Process) -> bool:
    """Stop a process; whether it was still going on."""
    try:
        if process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            return False
        process.suspend()
    except psutil.NoSuchProcess:
        return False
    return True


class ManagedProcess:
    """One process with its output in a log file. `start()` may be called again after it has ended."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = PROJECT_ROOT,
        user: str | None = None,
    ) -> None:
        self.argv = [str(part) for part in argv]
        self.log_path = log_path
        self.env = dict(os.environ if env is None else env)
        self.cwd = cwd
        self.user = user
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, appending its output to the log. Raises RuntimeError if it runs already."""
        if self.alive:
            raise RuntimeError(f"{self.argv[0]} runs already")
        as_user: dict[str, Any] = {}
        if self.user is not None:
            import pwd

            entry = pwd.getpwnam(self.user)
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
                **as_user,
            )
        guardian.watch(self._popen.pid)

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError if it was never started."""
        if self._popen is None:
            raise RuntimeError(f"{self.argv[0]} has not been started")
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (a frozen one does)."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal, None while it runs or before it was started."""
        return None if self._popen is None else self._popen.poll()

    def wait(self, timeout: float) -> int:
        """Wait for the end; the exit code (negative: the signal). Raises subprocess.TimeoutExpired."""
        assert self._popen is not None, "not started"
        code = self._popen.wait(timeout)
        guardian.forget(self._popen.pid)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its children."""
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL the process with all its descendants and wait until they are gone."""
        if self._popen is None:
            return
        family = self._family()
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        self.wait(10)
        # The children's new parent may be slow to collect them; a zombie holds neither memory nor sockets.
        wait_until(lambda: not any(_runs(member) for member in family), f"the end of {self.argv[0]}", deadline=10)

    def terminate(self, timeout: float = 20.0, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to end; its exit code. When it does not: SIGKILL and AssertionError."""
        self.send_signal(number)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.argv[0]} did not end within {timeout:g} s of {number.name}\n{self.log_tail()}"
            ) from None

    def freeze(self) -> None:
        """SIGSTOP the process and its descendants and wait for it: alive, connected, and silent."""
        # Looked at until a look finds nobody going on: a child that was made during the first one would escape.
        wait_until(
            lambda: not sum(_suspended(member) for member in self._family()),
            f"{self.argv[0]} is stopped",
            deadline=10,
        )

    def thaw(self) -> None:
        """SIGCONT what `freeze` stopped."""
        for member in self._family():
            member.resume()

    def _family(self) -> list[psutil.Process]:
        """The process and its descendants, parents first; empty when it has ended."""
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def rss(self) -> int:
        """Resident memory of the process and its descendants in bytes."""
        return sum(member.memory_info().rss for member in self._family())

    def cpu_seconds(self) -> float:
        """CPU time (user and system) of the process and its descendants since their start, in seconds."""
        total = 0.0
        for member in self._family():
            times = member.cpu_times()
            total += times.user + times.system
        return total

    def log(self) -> str:
        """Everything the process has written, over all its starts."""
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log, for the message of a failed test."""
        tail = self.log().splitlines()[-lines:]
        return "\n".join([f"--- the last {len(tail)} lines of {self.log_path.name} ---", *tail])

    def wait_for_log(self, text: str, *, deadline: float = 10.0) -> None:
        """Wait until the log contains the text. Raises DeadlineExceededError."""
        wait_until(lambda: text in self.log(), f"{text!r} in {self.log_path.name}", deadline=deadline)
