"""The threads that run gates: begun when they are needed, and never waited for when the process ends."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from django.db import connection

from ..monitoring.tracebacks import without_text

logger = logging.getLogger("arqonbus.gates")

#: Seconds without work after which a thread gives its connection to the database back.
IDLE = 5.0

Job = Callable[[], None]


class GateThreads:
    """Threads with one kept database connection each. Only the event loop calls it.

    A project's gate may hang. So the threads are daemons: a process that stops does not wait for them, and the database rolls
    their transactions back.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._closed: list[Future[None]] = []
        self._busy = 0

    @property
    def busy(self) -> int:
        """How many jobs were submitted and have not been :meth:`returned`."""
        return self._busy

    def submit(self, job: Job) -> None:
        """Run a job in a thread that is free, or in a new one. The caller calls :meth:`returned` after its end."""
        self._busy += 1
        if self._busy > len(self._closed):
            closed: Future[None] = Future()
            self._closed.append(closed)
            threading.Thread(target=self._work, args=(closed,), name="arqonbus-gate", daemon=True).start()
        self._jobs.put(job)

    def returned(self) -> None:
        """Note the end of a job."""
        self._busy -= 1

    def end(self) -> list[Future[None]]:
        """Let the threads that are free end. Return futures that are done once these have closed their connections."""
        closing = [closed for closed in self._closed if not closed.done()]
        for _ in closing:
            self._jobs.put(None)
        # A thread whose gate still runs takes its turn later, and nobody waits for it.
        return [] if self._busy else closing

    def _work(self, closed: Future[None]) -> None:
        try:
            while (job := self._next()) is not None:
                try:
                    job()
                except BaseException as problem:
                    # The text of an exception may quote a message.
                    text = "the work of a gate's thread failed"
                    logger.error(text, exc_info=without_text(problem), extra={"event": "internal_error"})
        finally:
            with contextlib.suppress(Exception):
                connection.close()
            closed.set_result(None)

    def _next(self) -> Job | None:
        try:
            return self._jobs.get(timeout=IDLE)
        except Empty:
            # Connections of a pool are few, and gates may be called seldom.
            connection.close()
            return self._jobs.get()
