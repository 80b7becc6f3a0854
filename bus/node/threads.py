"""Threads for the database, each with a connection of its own that is given back at the end."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import connection

#: How long the threads wait for one another at the end, in seconds; one that is at work then closes when it is done.
TOGETHER = 1.0


class DatabaseThreads(ThreadPoolExecutor):
    """``size`` threads. Django's connections belong to their thread: nobody else can close them, and one that is merely
    forgotten with its thread never goes back to the pool of connections."""

    def __init__(self, size: int, name: str) -> None:
        super().__init__(size, name)
        self._size = size

    def end(self) -> list[Future[None]]:
        """Take no more work, and close each thread's connection after what is queued; the futures tell when."""
        all_here = threading.Barrier(self._size)

        def close() -> None:
            try:
                # So that every thread takes one of the calls, and none takes two.
                all_here.wait(TOGETHER)
            except threading.BrokenBarrierError:
                pass
            finally:
                connection.close()

        closing = [self.submit(close) for _ in range(self._size)]
        self.shutdown(wait=False)
        return closing
