"""Threads of a management command that work until the command is told to end."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Sequence

from django.db import connection

#: They end the command once what runs is finished.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def process_name(role: str) -> str:
    """Return a name for this process, such as ``worker-myhost-4711``."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:40]
    return f"{role}-{host}-{os.getpid()}"


class Crew:
    """Threads that look at :attr:`stopping` between two pieces of work."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._problem: BaseException | None = None

    def run(self, work: Sequence[Callable[[], None]], ready: Callable[[], None]) -> None:
        """Run each of ``work`` in a thread of its own until all have ended. SIGTERM and SIGINT set :attr:`stopping`.

        ``ready`` is called once a signal ends the work in order. An exception of one thread ends the others, and is raised in the
        end. Must be called in the main thread for the signals.
        """
        threads = [
            threading.Thread(target=self._guarded, args=(one,), name=f"work-{number}")
            for number, one in enumerate(work)
        ]
        main = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, self._stop) for number in SIGNALS} if main else {}
        try:
            ready()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._problem is not None:
            raise self._problem

    def _stop(self, *_: object) -> None:
        self.stopping.set()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as problem:  # noqa: BLE001 - it is raised by `run`
            self._problem = problem
            self.stopping.set()
        finally:
            connection.close()
