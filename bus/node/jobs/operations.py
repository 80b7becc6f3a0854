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
        self._patience = runtime.settings.store_timeout + GRACE
        self._open = 0

    async def carry_out(self, operation: Operation) -> Any:
        """Return the answer to ``operation``. Raises ``BusError`` of the operation, BUSY, or UNAVAILABLE after too long a time.

        The end of a claim may be repeated after UNAVAILABLE: a second one has the answer of the first.
        """
        if self._open >= MOST:
            raise BusError(ErrorCode.BUSY, retry_after=0.5)
        self._open += 1
        answer = self.submit(operation)
        overdue = self._runtime.loop.call_later(self._patience, _give_up, answer)
        try:
            return await answer
        except asyncio.CancelledError:
            # The answer may have come in the same turn. Then it is there already, and nobody reads it.
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self.unheard(operation, answer.result())
            raise
        except DatabaseError:
            raise unavailable() from None
        finally:
            overdue.cancel()
            self._open -= 1

    def unheard(self, item: Operation, answer: Any) -> None:
        """Release jobs that come after their caller has given up: no worker has heard of them."""
        if isinstance(answer, Claims) and isinstance(item, Claim):
            for job in answer.claims:
                released = self.submit(Release(job.claim, 0.0, None, item.worker, unused=True))
                released.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    def _apply(self, operations: Sequence[Operation]) -> list[Any]:
        """Carry out a group. Runs in the writing thread."""
        outcome: Outcome = database_call(service.apply, operations)
        if outcome.changes or outcome.ready:
            # Before the answers: a worker that reads its answer finds the others told.
            self._runtime.loop.call_soon_threadsafe(self._happened, outcome)
        return outcome.answers


def _give_up(answer: asyncio.Future[Any]) -> None:
    """Tell a caller that the database does not answer. An operation whose turn has not come is left out."""
    if not answer.done():
        answer.set_exception(unavailable())
