"""The methods of a bus for leased work: jobs of work channels, and what their admins do with them."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from .claims import Claims
from .publishing import Publishing
from .work import WAIT, Work, work_address


class Working(Publishing):
    """Leased work, as its worker and as its admin."""

    #: The jobs in hand of each work channel, and the iterators over jobs.
    _claims: dict[str, Claims]
    _works: weakref.WeakSet[Work]

    def work(self, address: str, *, concurrency: int = 1, max_wait: float = WAIT) -> Work:
        """Work on the jobs of a channel: ``async for job in bus.work("jobs:new"): async with job: …``.

        The end of the block says that the job is done. An exception is logged and releases the job, for another attempt after a
        pause. At most ``concurrency`` jobs are in hand at once: call :meth:`Work.run` with a function to do several at once.
        ``max_wait`` (seconds, at most 25) is how long one request for jobs waits. See :class:`Work` and :class:`Job`.

        The iterator raises ``Forbidden``, ``ChannelNotFound``, and ``ValidationFailed`` for a channel that has no work.
        """
        address = work_address(address)
        if address not in self._claims:
            self._claims[address] = Claims(self, address)
        work = Work(self, self._claims[address], concurrency=concurrency, max_wait=max_wait)
        self._works.add(work)
        return work

    async def jobs(self, address: str) -> dict[str, Any]:
        """Return the queue of a work channel: its rule, ready, delayed, claimed and dead jobs, and the oldest one's time."""
        return await self._command("work", {"channel": work_address(address)})

    async def retry_job(self, address: str, seq: int) -> dict[str, Any]:
        """Make a dead job ready again, with all of its attempts (right ``manage``)."""
        return await self._command("retry_job", {"channel": work_address(address), "seq": seq})

    async def discard_job(self, address: str, seq: int) -> dict[str, Any]:
        """Discard a job, whatever its state is (right ``manage``). A worker that has it gets ``ClaimLost``."""
        return await self._command("discard_job", {"channel": work_address(address), "seq": seq})

    def _late_claims(self, frame: dict[str, Any]) -> bool:
        """Release the jobs of a claim that nobody awaits any more. Returns whether the answer was one to a claim."""
        result = frame.get("result")
        if not isinstance(result, dict) or not isinstance(result.get("claims"), list):
            return False
        for row in result["claims"]:
            message = row["message"]
            address = f"{message.get('room')}:{message.get('channel')}"
            if address in self._claims:
                self._spawn(self._claims[address].release(str(row["claim"])))
        return True

    async def _works_part(self) -> None:
        """Give all jobs back, since the bus closes."""
        closing = asyncio.current_task()
        jobs = [job for claims in self._claims.values() for job in claims.hand()]
        await asyncio.gather(*(work.close() for work in list(self._works)), *(job._part(closing) for job in jobs))

    def _works_back(self) -> None:
        for claims in self._claims.values():
            claims.back()

    def _works_end(self, failure: Exception, *, closed: bool) -> None:
        for work in list(self._works):
            if closed:
                work._finish()
            else:
                work._fail(failure)
