"""A log writer with its threads, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from django.db import connection

from bus.log import Entry, LogWriter


class Writing:
    """A log writer with its thread, and what it told."""

    def __init__(self, timeout: float) -> None:
        self.executor, self.apart = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.committed: list[str] = []
        self.writer = LogWriter(
            self.executor,
            self.apart,
            lambda entries: self.committed.extend(e.uid for e in entries if e.error is None and not e.duplicate),
            group=1000,
            queue_limit=50,
            queue_bytes=1_000_000,
            timeout=timeout,
            window=3600,
        )

    async def append(self, *entries: Entry) -> list[Entry]:
        """Append together; the entries as they were answered."""
        futures: list[asyncio.Future[Entry]] = []
        for one in entries:
            future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
            one.done = future.set_result
            futures.append(future)
            self.writer.append(one)
        return await asyncio.wait_for(asyncio.gather(*futures), 20)


@asynccontextmanager
async def write(timeout: float) -> AsyncIterator[Writing]:
    """A writer that refuses what it could not write in `timeout` seconds."""
    made = Writing(timeout)
    yield made
    await asyncio.wait_for(made.writer.drained(), 20)
    for executor in (made.executor, made.apart):
        executor.submit(lambda: connection.close()).result()  # the thread's own
        executor.shutdown()
