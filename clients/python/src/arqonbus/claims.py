"""The jobs of one work channel that this client has in hand. All iterators over the channel share them."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import ArqonBusError, ClaimLost, ClaimNotFound
from .jobs import DROPPED, RUNNING, Job
from .messages import new_id

if TYPE_CHECKING:
    from .publishing import Publishing

logger = logging.getLogger("arqonbus.client")

#: The largest number of jobs of one claim.
MOST = 100
#: How long a job runs at most until the next look at its claim, in seconds.
LOOK = 30.0
#: After a refusal of a claim was logged, no other one of the channel is logged for this time, in seconds.
QUIET = 60.0


class Claims:
    """Claims jobs, and knows which of them run. It loses none, also if the answer to a claim is lost."""

    def __init__(self, bus: Publishing, address: str) -> None:
        self.bus = bus
        self.address = address
        #: The jobs in hand, by the ids of their messages. A job that the program drops is released.
        self._hand: weakref.WeakValueDictionary[str, Job] = weakref.WeakValueDictionary()
        #: The connection on which the server has told all claims of this client, and how many it told so far.
        self._told_on, self._told = 0, 0
        self._telling = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        #: When the next refusal of a claim is logged.
        self._log_again = 0.0

    # --- claiming -------------------------------------------------------------------------------------------------------

    async def claim(self, most: int, wait: float) -> list[Job]:
        """Claim at most ``most`` jobs, and wait for the first one at most ``wait`` seconds.

        On a new connection, the jobs come first whose claim was never answered, also those of an earlier process.
        """
        most = min(most, MOST)
        if self._told_on != self.bus.connections:
            async with self._telling:
                connection = self.bus.connections
                if self._told_on != connection:
                    jobs, told = await self._ask(most, 0.0, [job.claim for job in self.hand()])
                    self._told += told
                    if (told < most or self._told >= MOST) and connection == self.bus.connections:
                        self._told_on, self._told = connection, 0
                    if jobs:
                        return jobs
        return (await self._ask(most, wait, None))[0]

    async def _ask(self, most: int, wait: float, have: list[str] | None) -> tuple[list[Job], int]:
        parameters: dict[str, Any] = {"channel": self.address, "max": most, "wait": wait}
        if have is not None:
            parameters["have"] = have
        # A repeat could claim twice. What a lost answer has claimed comes with the first claim on the next connection, and on
        # the same connection the jobs of a second answer are released.
        frame = {"type": "command", "id": new_id(), "command": "claim", "parameters": parameters}
        answer = await self.bus._request(frame, repeat=False, again=True, timeout=wait + self.bus._timeout)
        rows: list[dict[str, Any]] = answer["result"]["claims"]
        return [job for row in rows if (job := self._taken(row)) is not None], len(rows)

    def _taken(self, row: dict[str, Any]) -> Job | None:
        """Return the new job of a row. None if this client does the job already: it goes on with the new claim."""
        running = self._hand.get(str(row["message"].get("id")))
        if running is not None and running.state == RUNNING:
            running._renamed(row)
            return None
        job = Job(self, row)
        self._hand[job.id] = job
        if self._watching is None or self._watching.done():
            self._watching = self.bus._spawn(self._watch())
        return job

    def refused(self, problem: Exception) -> None:
        """Log that a claim was refused and is repeated: once in a while, however many loops claim here."""
        now = asyncio.get_running_loop().time()
        if now >= self._log_again:
            self._log_again = now + QUIET
            logger.warning("claiming jobs of %s: %s; trying again", self.address, str(problem).rstrip("."))

    # --- the jobs in hand -----------------------------------------------------------------------------------------------

    def ended(self, job: Job) -> None:
        """Handle that a job has ended here."""
        if self._hand.get(job.id) is job:
            del self._hand[job.id]

    def hand(self) -> list[Job]:
        """Return the jobs in hand."""
        return list(self._hand.values())

    def dropped(self, claim: str, freed: Callable[[], None]) -> None:
        """Handle that the program let a job go. Another attempt follows."""
        freed()
        if self.bus._failure is None:
            self.bus._spawn(self.release(claim, DROPPED))

    async def release(self, claim: str, error: str | None = None) -> None:
        """Release a job that nobody works on. What goes wrong is the server's to mend: it ends the lease."""
        try:
            await self.bus._command("release", {"claim": claim} if error is None else {"claim": claim, "error": error})
        except (ArqonBusError, TimeoutError) as problem:
            logger.debug("releasing a job of %s: %s", self.address, problem)

    def back(self) -> None:
        """On a new connection, ask which of the jobs in hand still belong to this client."""
        for job in self.hand():
            self.bus._spawn(self._look(job))

    async def _watch(self) -> None:
        """Ask now and then whether a long job still belongs to this client. Somebody may have discarded it."""
        loop = asyncio.get_running_loop()
        looked: weakref.WeakKeyDictionary[Job, float] = weakref.WeakKeyDictionary()
        while self._hand:
            now = loop.time()
            for job in self.hand():
                if now - looked.setdefault(job, now) >= min(job.lease, LOOK):
                    looked[job] = now
                    self.bus._spawn(self._look(job))
            shortest = min((job.lease for job in self.hand()), default=LOOK)
            job = None  # type: ignore[assignment] # this frame must not keep it
            await asyncio.sleep(max(0.5, min(shortest, LOOK) / 2))

    async def _look(self, job: Job) -> None:
        if job.state != RUNNING or not self.bus.connected:
            return
        try:
            await self.bus._command("renew", {"claim": job.claim}, repeat=False)
        except ClaimLost as problem:
            # An expired job that nobody has taken may still be finished. The answer of a done one is on its way.
            if problem.why not in ("expired", "done"):
                job._lose(problem)
        except ClaimNotFound as problem:
            job._lose(problem)
        except (ArqonBusError, TimeoutError) as problem:
            logger.debug("renewing a claim of %s: %s", self.address, problem)
