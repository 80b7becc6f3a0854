"""What the parts of a node share: the event loop, the settings, work in database threads, and background tasks."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, Future
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar, TypeVarTuple

from django.db import Error as DatabaseError
from django.db import connection

from ..conf.settings import config
from .threads import DatabaseThreads, database_call, database_question, database_read

logger = logging.getLogger("arqonbus.node")

Args = TypeVarTuple("Args")
Result = TypeVar("Result")


class Run(Protocol):
    """Calls a function in a database thread and returns its result. Raises what the function raises."""

    def __call__(self, function: Callable[[*Args], Result], /, *args: *Args) -> Coroutine[None, None, Result]:
        """Run ``function(*args)``."""
        ...


class Traffic:
    """What comes in through the sockets of this process."""

    __slots__ = ("draining", "in_progress", "received", "received_bytes")

    def __init__(self) -> None:
        #: Frames received, and their bytes.
        self.received = self.received_bytes = 0
        #: Frames that a handler works on at this moment.
        self.in_progress = 0
        #: True from the beginning of a graceful stop; new frames are refused with RESTARTING.
        self.draining = False


class Runtime:
    """One per node, made in its event loop. Everything but the database calls themselves runs in that loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = config()
        self.node_id = secrets.token_hex(8)
        self.host = socket.gethostname()[:255]
        self.started_at = datetime.now(UTC)
        self.traffic = Traffic()
        # Each thread keeps one database connection. Slow work in one thread does not delay that in another.
        #: Writes, in turn with the log's commits. SQLite has only one writer anyway.
        self.writer = DatabaseThreads(1, "arqonbus-log")
        #: Waits for channels whose row another transaction holds; has a connection only meanwhile.
        self.apart = DatabaseThreads(1, "arqonbus-apart")
        #: Writes decisions, which may wait for the row of a channel.
        self._decider = DatabaseThreads(1, "arqonbus-decide")
        self._reader = DatabaseThreads(1, "arqonbus-read")
        self._asker = DatabaseThreads(1, "arqonbus-ask")
        self._watcher = DatabaseThreads(1, "arqonbus-watch")
        self._renderer = DatabaseThreads(1, "arqonbus-render")
        self._repeated: list[asyncio.Task[None]] = []
        #: The tasks that :meth:`spawn` started and that have not ended.
        self.short_tasks: set[asyncio.Task[None]] = set()

    # --- database threads -------------------------------------------------------------------------------------------

    async def run(self, function: Callable[[*Args], Result], /, *args: *Args) -> Result:
        """Read a few rows for a client's frame. Raises the database's error."""
        return await self._in(self._reader, partial(database_read, function, *args))

    async def ask(self, function: Callable[[*Args], Result], /, *args: *Args) -> Result:
        """Answer a question that may read many rows. It holds up only other questions.

        Raises ``BusError`` UNAVAILABLE where the database takes too long, else its own error.
        """
        return await self._in(self._asker, partial(database_question, function, *args))

    async def run_watcher(self, function: Callable[[*Args], Result], /, *args: *Args) -> Result:
        """Read for the streams, in a thread that no client's question holds up. Raises the database's error."""
        return await self._in(self._watcher, partial(database_read, function, *args))

    async def render(self, function: Callable[[*Args], Result], /, *args: *Args) -> Result:
        """Run a template of the project. Its queries hold up other templates only. Raises what ``function`` raises."""
        return await self._in(self._renderer, partial(database_read, function, *args))

    async def run_writer(self, function: Callable[[*Args], Result], /, *args: *Args) -> Result:
        """Write, in turn with the log's commits. Raises the database's error."""
        return await self._in(self.writer, partial(database_call, function, *args))

    async def run_decider(self, function: Callable[[*Args], Result], /, *args: *Args) -> Result:
        """Write a decision. It may wait for the row of a channel, and holds up only other decisions.

        SQLite has no such locks and only one writer, so there it takes its turn with the log's commits.
        """
        executor = self._decider if connection.vendor == "postgresql" else self.writer
        return await self._in(executor, partial(database_call, function, *args))

    async def writer_idle(self) -> None:
        """Return once the writing thread has finished the transaction it works on now, and its callbacks have run."""
        await self._in(self.writer, lambda: None)
        await asyncio.sleep(0)

    async def _in(self, executor: Executor, call: Callable[[], Result]) -> Result:
        return await self.loop.run_in_executor(executor, call)

    def end_threads(self) -> list[Future[None]]:
        """Take no more work. The futures are done when the threads have closed their connections."""
        threads = (self.writer, self.apart, self._decider, self._reader, self._asker, self._watcher, self._renderer)
        return [closed for pool in threads for closed in pool.end()]

    # --- background tasks ---------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run something short beside the caller; the task is referenced until it ends."""
        task = asyncio.ensure_future(work)
        self.short_tasks.add(task)
        task.add_done_callback(self.short_tasks.discard)

    def repeat(self, work: Callable[[], Awaitable[float]]) -> None:
        """Call ``work`` again and again until :meth:`stop_repeating`. It returns the seconds until its next turn."""
        self._repeated.append(asyncio.ensure_future(self._again(work)))

    @property
    def repeating(self) -> bool:
        """Whether any regular work has begun."""
        return bool(self._repeated)

    def stop_repeating(self) -> None:
        """Cancel all regular work."""
        for task in self._repeated:
            task.cancel()

    async def _again(self, work: Callable[[], Awaitable[float]]) -> None:
        while True:
            try:
                pause = await work()
            except DatabaseError as problem:
                logger.debug("heartbeat: %s", problem)
                pause = 0.5
            except Exception:
                logger.exception("heartbeat failed", extra={"event": "heartbeat_failed"})
                pause = 1.0
            await asyncio.sleep(pause)
