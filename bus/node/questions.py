"""The deadlines of questions: their askers are told, wherever they are connected. Requests that wait for a reply are woken.

The database decides that a question has ended. This process looks at the deadlines that it knows of, and once a second at all
of them: the asker's process may have been killed.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from django.db import Error as DatabaseError

from ..notify.broker import Broker
from ..notify.messages import EndedQuestion, QuestionsEnded
from ..protocol import frames
from ..protocol.asking import answered
from ..realtime.hub import Hub
from ..services import asks
from .client import Clients
from .interest import Interest
from .runtime import Runtime

#: Seconds between two looks at all questions.
INTERVAL = 1.0
#: Seconds between two looks at known deadlines, so that many deadlines share a look.
CLOSEST = 0.05
#: Seconds after a deadline at which it is looked at: the commit that began it took some time.
BEHIND = 0.01
#: Deadlines that are known, and the longest time until one, in seconds. The looks at all questions find the others.
KNOWN, SOON = 10_000, 60.0


class Questions:
    """Ends the questions whose deadline has passed, and tells their askers."""

    def __init__(self, runtime: Runtime, clients: Clients, hub: Hub, broker: Broker, interest: Interest) -> None:
        self._runtime = runtime
        self._clients = clients
        self._hub = hub
        self._broker = broker
        self._interest = interest
        interest.askers = lambda: self._asked_by
        self._deadlines: list[float] = []
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0
        # The requests that wait, by the question's row. The ids of the questions by their rows, for each asker.
        self._waiting: defaultdict[int, set[asyncio.Event]] = defaultdict(set)
        self._asked_by: defaultdict[str, dict[int, str]] = defaultdict(dict)

    # --- deadlines ------------------------------------------------------------------------------------------------------

    def expect(self, timeout: float) -> None:
        """Note that a client here asked a question, which waits for ``timeout`` seconds."""
        if timeout <= SOON and len(self._deadlines) < KNOWN:
            heapq.heappush(self._deadlines, self._runtime.loop.time() + timeout + BEHIND)
            self._set_timer()

    def _set_timer(self) -> None:
        if not self._deadlines:
            return
        at = max(self._deadlines[0], self._next)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._runtime.loop.call_at(at, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._runtime.loop.time()
        self._next = now + CLOSEST
        while self._deadlines and self._deadlines[0] <= now:
            heapq.heappop(self._deadlines)
        self._set_timer()
        self._runtime.spawn(self._look_now())

    def stop(self) -> None:
        """Look at no more deadlines. The other processes do."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()

    async def _look_now(self) -> None:
        try:
            await self.look()
        except DatabaseError:
            pass  # The next look at all questions finds it.

    async def look(self) -> float:
        """End what is overdue, and wake the requests whose questions have ended. Return the seconds until the next look."""
        found = await self._runtime.run_watcher(asks.look, list(self._waiting))
        self._wake(found.ended)
        more = found.overdue
        while more:
            ended = await self._runtime.run_writer(asks.expire)
            self._tell(ended)
            more = len(ended) == asks.SWEPT
        return INTERVAL

    def _tell(self, expired: Sequence[asks.Expired]) -> None:
        if not expired:
            return
        rows = [
            EndedQuestion(one.id, one.client_id, one.principal, frames.error(one.error, one.request_id))
            for one in expired
        ]
        self.receive(QuestionsEnded(rows))
        if not self._broker.alone:
            self._broker.send(QuestionsEnded(rows))

    def receive(self, notification: QuestionsEnded) -> None:
        """Tell the askers that are connected here that nobody answered in time."""
        for key, client_id, principal, frame in notification.questions:
            client = self._clients.by_id.get(client_id)
            if client is not None and client.actor.principal == principal:
                self._hub.send(client, frame)
            self._wake({key})

    # --- requests that wait -----------------------------------------------------------------------------------------------

    def heard(self, client_id: str, frame: bytes) -> None:
        """Wake the requests whose question a private message to a client answers.

        The frame may be left out because it is large. The next look at all questions then wakes them.
        """
        asked = self._asked_by.get(client_id)
        if asked and (named := answered(frame)) is not None:
            self._wake([key for key, uid in asked.items() if uid == named])

    def _wake(self, keys: Iterable[int]) -> None:
        for key in keys:
            for event in self._waiting.get(key, ()):
                event.set()

    @contextmanager
    def waiting(self, key: int, asker: str, uid: str) -> Iterator[asyncio.Event]:
        """Within it, the event is set when the question ``uid`` of the client ``asker``, with the row ``key``, may have ended."""
        event = asyncio.Event()
        self._waiting[key].add(event)
        self._asked_by[asker][key] = uid
        self._interest.in_client(asker)
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]
                del self._asked_by[asker][key]
                if not self._asked_by[asker]:
                    del self._asked_by[asker]
