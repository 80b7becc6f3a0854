"""Several processes on the same ports. One parent listens, starts the workers, and restarts those that die."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from django.conf import settings

logger = logging.getLogger("arqonbus.workers")

#: A worker that lived for fewer seconds than this is restarted after a pause, which grows up to the longest one.
SHORT_LIFE = 5.0
LONGEST_PAUSE = 10.0
#: Seconds that a restart waits for a worker to serve, before it goes on with the next worker.
START_WITHIN = 30.0
#: Seconds for a worker's graceful stop, before it is killed.
STOP_WITHIN = 12.0


class _Worker:
    def __init__(self, number: int, command: Sequence[str]) -> None:
        self.number = number
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_at = 0.0
        self.failures = 0
        # The parent's end of the pipe on which the worker says that it serves.
        self.ready = -1


class Workers:
    """Keeps a process of each of ``commands`` alive; they inherit ``sockets``. SIGHUP restarts them one after another."""

    def __init__(self, commands: Sequence[Sequence[str]], sockets: Sequence[socket.socket]) -> None:
        self._workers = [_Worker(number, command) for number, command in enumerate(commands)]
        self._sockets = sockets
        self._stopping = threading.Event()
        self._restart = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. Returns the exit status: 0 when every worker stopped in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_restart)
        while not self._stopping.is_set():
            self._keep_alive()
            if self._restart:
                self._restart = False
                self._one_after_another()
            time.sleep(0.1)
        return self._stop(self._workers)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()

    def _on_restart(self, number: int, frame: FrameType | None) -> None:
        self._restart = True

    def _start(self, worker: _Worker) -> subprocess.Popen[bytes]:
        worker.started_at = time.monotonic()
        if worker.ready >= 0:
            os.close(worker.ready)
        worker.ready, report = os.pipe()
        # A worker has a session of its own: Ctrl+C reaches the parent alone, which stops the workers in order.
        worker.process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, *worker.command, f"--ready-fd={report}"],
            pass_fds=[*(made.fileno() for made in self._sockets), report],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE,
            },
            start_new_session=True,
        )
        os.close(report)
        return worker.process

    def _keep_alive(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            process = worker.process
            if process is not None and process.poll() is not None:
                short = now - worker.started_at < SHORT_LIFE
                worker.failures = worker.failures + 1 if short else 0
                pause = min(0.5 * 2 ** (worker.failures - 1), LONGEST_PAUSE) if worker.failures else 0.0
                logger.error(
                    "worker %d ended with status %d; starting it again in %.1f s",
                    worker.number,
                    process.returncode,
                    pause,
                    extra={"event": "worker_ended", "worker": worker.number, "status": process.returncode},
                )
                worker.process, worker.start_at = None, now + pause
            if worker.process is None and now >= worker.start_at and not self._stopping.is_set():
                self._start(worker)

    def _one_after_another(self) -> None:
        for worker in self._workers:
            if self._stopping.is_set():
                return
            self._stop([worker])
            self._start(worker)
            # The next worker stops when this one serves or died. The sockets stay open in between.
            deadline = time.monotonic() + START_WITHIN
            while time.monotonic() < deadline and not self._stopping.is_set():
                if select.select([worker.ready], [], [], 0.1)[0]:
                    break

    def _stop(self, workers: Sequence[_Worker]) -> int:
        running = [worker.process for worker in workers if worker.process is not None]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN
        status = 0
        for process in running:
            try:
                ended = process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                logger.error(
                    "a worker did not stop within %.0f s; killing it", STOP_WITHIN, extra={"event": "worker_killed"}
                )
                process.kill()
                ended = process.wait()
            if ended != -signal.SIGTERM:  # A worker ends so that was not ready yet to stop in order.
                status = status or abs(ended)
        return status


def report_ready(handle: int) -> None:
    """Write to the parent's pipe that this worker serves. A negative ``handle`` means that there is no parent."""
    if handle >= 0:
        os.write(handle, b"1")
        os.close(handle)
