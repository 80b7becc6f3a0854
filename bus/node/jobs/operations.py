"""The operations on jobs of all connections, gathered into one transaction after another of the writing thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from django.db import Error as DatabaseError

from ...protocol.errors import BusError, ErrorCode
from ...services import work as service
from ...services.work import Claim, Operation, Outcome, Release
from ...shapes import Claims
from ..batch import Batcher
from ..runtime import Runtime
from ..threads import database_call, unavailable

#: Seconds that an operation may take beyond the time of the log's own writes.
GRACE = 3.0
#: Operations that may wait at once. A client gets BUSY above that.
MOST = 10_000
#: Operations of one transaction.
GROUP = 200


class Operations(Batcher[Operation]):
    """Carries out claims, renewals and ends of claims. ``happened`` gets what each transaction did, before its answers."""

    def __init__(self, runtime: Runtime, happened: Callable[[Outcome], None]) -> None:
        super().__init__(runtime.writer, self._apply, most=GROUP)
        self._runtime = runtime
        self._happened = happened
        self._open = 0

    async def carry_out(self, operation: Operation) -> Any:
        """Return the answer to ``operation``. Raises ``BusError`` of the operation, BUSY, or UNAVAILABLE after too long a time.

        The end of a claim may be repeated after UNAVAILABLE: a second one has the answer of the first.
        """
        if self._open >= MOST:
            raise BusError(ErrorCode.BUSY, retry_after=0.5)
        self._open += 1
        answer = self.submit(operation)
        try:
            async with asyncio.timeout(self._runtime.settings.store_timeout + GRACE):
                return await asyncio.shield(answer)
        except TimeoutError:
            self._give_up(operation, answer)
            raise unavailable() from None
        except asyncio.CancelledError:
            self._give_up(operation, answer)
            raise
        except DatabaseError:
            raise unavailable() from None
        finally:
            self._open -= 1

    def _give_up(self, operation: Operation, answer: asyncio.Future[Any]) -> None:
        """Leave out an operation whose turn has not come. Jobs that come after all are released, because nobody got them."""
        if self.withdraw(answer) or not isinstance(operation, Claim):
            return

        def release(done: asyncio.Future[Any]) -> None:
            if done.cancelled() or done.exception() is not None or not isinstance(done.result(), Claims):
                return
            for job in done.result().claims:
                unheard = self.submit(Release(job.claim, 0.0, None, operation.worker, unused=True))
                unheard.add_done_callback(lambda future: None if future.cancelled() else future.exception())

        answer.add_done_callback(release)

    def _apply(self, operations: Sequence[Operation]) -> list[Any]:
        """Carry out a group. Runs in the writing thread."""
        outcome: Outcome = database_call(service.apply, operations)
        if outcome.changes or outcome.ready:
            # Before the answers: a worker that reads its answer finds the others told.
            self._runtime.loop.call_soon_threadsafe(self._happened, outcome)
        return outcome.answers
