"""The marks of a client: how far it has dealt with a log. One mark of a log is on its way at a time, and then the newest."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from .errors import ArqonBusError, BusClosed, ValidationFailed
from .messages import Position
from .requests import within

if TYPE_CHECKING:
    from .publishing import Publishing

logger = logging.getLogger("arqonbus.client")

F = TypeVar("F", bound="Follower")


class Marked(TypedDict):
    """The answer to ``mark``: the mark as it is now, and the number of messages behind it."""

    room: str
    channel: str
    seq: int
    epoch: str
    unread: int


class Follower:
    """A reader of a log that is done with its messages one after another."""

    def __init__(self, log: _Log, fail: weakref.WeakMethod[Callable[[BaseException], None]]) -> None:
        self._log = log
        self._fail = fail
        #: The place up to which this reader is done. None before its first message.
        self.place: Position | None = None

    def done(self, place: Position) -> None:
        """The reader is done with everything up to ``place``. The mark follows in the background."""
        self.place = place
        self._log.followed()

    def fail(self, problem: Exception) -> None:
        """The server refused a mark for good. The reader gets the error."""
        if (fail := self._fail()) is not None:
            fail(problem)

    def close(self) -> None:
        """The reader ends. It holds up the mark of the others no longer."""
        self._log.followers.discard(self)


class _Log:
    """The marks of one log that are on their way."""

    def __init__(self, bus: Publishing, address: str, marked: Callable[[str, Position], None]) -> None:
        self._bus = bus
        self._address = address
        self._marked = marked
        self.followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        self._wanted: Position | None = None
        self._sent: Position | None = None
        self._waiting: list[tuple[Position, asyncio.Future[Marked]]] = []
        self._sending: asyncio.Task[None] | None = None

    def followed(self) -> None:
        """Move the mark behind what every follower is done with."""
        places = [follower.place for follower in self.followers if follower.place is not None]
        if places:
            self._want(min(places, key=lambda place: place.seq))

    def _want(self, place: Position) -> None:
        if _behind(self._wanted, place):
            self._wanted = place
        if _behind(self._sent, place) and (self._sending is None or self._sending.done()):
            self._sending = self._bus._spawn(self._send())

    def wait(self, place: Position) -> asyncio.Future[Marked]:
        """Return the future answer to a mark at ``place``, or at a later one."""
        future: asyncio.Future[Marked] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, future))
        self._sent = None  # An explicit mark has an answer of its own, also where the mark stands already.
        self._want(place)
        return future

    async def _send(self) -> None:
        while self._wanted is not None and _behind(self._sent, self._wanted):
            place = self._wanted
            parameters: dict[str, Any] = {"channel": self._address, "seq": place.seq}
            if place.epoch:
                parameters["epoch"] = place.epoch
            try:
                answer: Marked = await self._bus._command("mark", parameters)  # type: ignore[assignment]
            except TimeoutError:
                if not self._waiting and not self.followers:
                    return
                continue  # The server is away. The newest mark is sent when it is back.
            except ArqonBusError as problem:
                self.fail(problem)
                return
            self._sent = place
            self._marked(self._address, Position(answer["seq"], answer["epoch"]))
            for waiting in list(self._waiting):
                if not _behind(place, waiting[0]):
                    self._waiting.remove(waiting)
                    if not waiting[1].done():
                        waiting[1].set_result(answer)

    def fail(self, problem: Exception) -> None:
        """Give up the marks that are not confirmed. Those who wait get the error, or else the followers."""
        self._wanted = self._sent
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(problem)
        # A follower of a log that was created again goes on with the new one.
        if not waiting and not isinstance(problem, (BusClosed, ValidationFailed)):
            for follower in list(self.followers):
                follower.fail(problem)

    def moved_back(self) -> None:
        """The mark was moved back. The next message of a follower moves it on again."""
        self._wanted = self._sent = None

    async def settled(self) -> None:
        """Wait until nothing is on its way. Errors have gone to those who wait."""
        if self._sending is not None:
            await asyncio.wait({self._sending})


def _behind(place: Position | None, other: Position) -> bool:
    """Return whether a mark at ``other`` is news after one at ``place``. In another log it always is."""
    if place is None or (place.epoch and other.epoch and place.epoch != other.epoch):
        return True
    return place.seq < other.seq


class Marks:
    """All marks of a client."""

    def __init__(self, bus: Publishing) -> None:
        self._bus = bus
        self._logs: dict[str, _Log] = {}
        #: The marks that the server has told, by address.
        self.known: dict[str, Position] = {}
        #: The heads of the logs at the first registration: where a log without a mark begins.
        self.began: dict[str, Position] = {}

    def registered(self, answer: dict[str, Any]) -> None:
        """Handle the answer to a registration."""
        for address, row in (answer.get("marks") or {}).items():
            self.known[address] = Position(row["seq"], row["epoch"])
        if not self.began:
            rows: dict[str, dict[str, Any]] = answer.get("channels") or {}
            self.began = {address: Position(row["seq"], row["epoch"] or None) for address, row in rows.items()}

    def _log(self, address: str) -> _Log:
        if address not in self._logs:
            self._logs[address] = _Log(self._bus, address, self.known.__setitem__)
        return self._logs[address]

    def follow(self, kind: type[F], address: str, fail: weakref.WeakMethod[Callable[[BaseException], None]]) -> F:
        """Return a follower of a log. Its marks move in the background. ``fail`` gets the error if the server refuses one.

        The log of a follower lives as long as the bus, and the follower as long as somebody holds it.
        """
        log = self._log(address)
        follower = kind(log, fail)
        log.followers.add(follower)
        return follower

    async def mark(self, address: str, seq: int, epoch: str | None, *, back: bool) -> Marked:
        """Move a mark and return it. Marks of one log that wait at the same time become one."""
        log = self._log(address)
        if back:
            await log.settled()
            answer: Marked = await self._bus._command("mark", {"channel": address, "seq": seq, "back": True})  # type: ignore[assignment]
            self.known[address] = Position(answer["seq"], answer["epoch"])
            log.moved_back()
            return answer
        self._bus._check()
        seconds = self._bus._timeout
        async with within(seconds, f"The mark of {address} was not confirmed within {seconds:g} s."):
            return await log.wait(Position(seq, epoch))

    async def begin(self, address: str, seq: int) -> None:
        """Learn the mark of a log. Without one, the server sets it at ``seq``, or before the oldest open question."""
        answer = await self._bus._command("mark", {"channel": address, "seq": seq, "begin": True})
        self.known[address] = Position(answer["seq"], answer["epoch"])

    async def settled(self, address: str | None = None, *, seconds: float) -> None:
        """Wait until the marks of one log, or of all, have arrived, ``seconds`` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for place, log in list(self._logs.items()):
                    if address in (None, place):
                        await log.settled()

    def fail(self, error: Exception) -> None:
        """End all marks that are awaited, since the bus ends. Its subscriptions end by themselves."""
        for log in self._logs.values():
            log.fail(error)
