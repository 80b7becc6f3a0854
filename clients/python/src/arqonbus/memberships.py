"""Joining and leaving channels, one operation at a time per channel.

So overlapping subscriptions do not end each other's membership.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .commands import Joined
from .errors import ArqonBusError, BusClosed, ConnectionLost, NotFound, ServerError
from .heard import Heard, joinable
from .messages import INBOX_ROOM, MARK, Position, Since, moment_of, new_id

if TYPE_CHECKING:
    from .bus import Bus
    from .subscription import Subscription

logger = logging.getLogger("arqonbus.client")


class Memberships:
    """The channels of a client, and the subscriptions that need them."""

    def __init__(self, bus: Bus, heard: Heard) -> None:
        self._bus = bus
        self._heard = heard
        #: Channels of ``join``. They stay, independent of subscriptions.
        self.kept: set[str] = set()
        #: Channels where the server has us, or may have us if an answer was lost.
        self.members: set[str] = set()
        #: Channels whose parts of streamed messages this client does not get.
        self._quiet: set[str] = set()
        #: The number of subscriptions of a channel that are about to join it.
        self._opening: Counter[str] = Counter()
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def wanted(self) -> set[str]:
        """Return the channels that this client needs."""
        listening = {address for address, those in self._heard.by_address.items() if those and joinable(address)}
        return self.kept | listening | {address for address, number in self._opening.items() if number > 0}

    def _needed(self, address: str) -> bool:
        return address in self.kept or self._opening[address] > 0 or bool(self._heard.listeners(address))

    def _hears_parts(self, address: str) -> bool:
        return address in self.kept or any(subscription.parts for subscription in self._heard.listeners(address))

    def _turn(self, address: str) -> asyncio.Lock:
        lock = self._turns.get(address)
        if lock is None:
            lock = self._turns[address] = asyncio.Lock()
        return lock

    def back(self) -> None:
        """After a reconnect, join the missing channels and leave those that nothing needs."""
        wanted = self.wanted()
        for address in wanted & self._quiet:
            self.members.discard(address)  # A new membership gets the parts, unless it says otherwise.
        for address in wanted - self.members:
            self._bus._spawn(self._rejoin(address))
        for address in self.members - wanted:
            self._bus._spawn(self._leave_unused(address))

    # --- subscriptions ------------------------------------------------------------------------------------------------

    async def attach(self, subscription: Subscription) -> None:
        """Start a subscription. It receives every frame after the answer."""
        await self._bus.wait_connected()
        if not subscription.joinable:
            await self._listen(subscription)
            return
        given_up = asyncio.Event()
        self._opening[subscription.address] += 1
        # This is a separate task. If the waiter is cancelled, the leave still follows a join that was sent.
        work = self._bus._spawn(self._enter(subscription, given_up))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            given_up.set()
            work.add_done_callback(lambda done: done.cancelled() or done.exception())  # Nobody else reads its result.
            self._heard.remove(subscription)  # The answer to its join may have just arrived.
            subscription._restart()
            self._let_go(subscription.address)
            if not self._bus.connected:
                work.cancel()  # Nothing was sent, and the next registration does not request it.
            current = asyncio.current_task()
            if work.cancelled() and current is not None and not current.cancelling():
                raise BusClosed("The bus is closed.") from None
            raise

    async def _listen(self, subscription: Subscription) -> None:
        """Start with a log that needs no join: an inbox or a room's log."""
        address = subscription.address
        if subscription.since == MARK:
            since: Position | None = await self._marked(address)
        else:
            since = await self._seq_of(address, subscription.since)
        at = self._heard.logs.get(address)
        if since is None:
            if at is not None:
                subscription._begin(address, at)
        else:
            start, gap = self._heard.place(address, since)
            subscription._begin(address, start, gap=gap)
            # The subscription already knows of a gap. The history has the other messages.
            subscription._follow(address, 0 if at is None or gap else at.seq)
        if not subscription.closed:
            self._add(subscription)

    async def _marked(self, address: str) -> Position:
        """Return the mark of the own inbox. Without one it begins where this client connected first.

        Questions that are still open come, too: perhaps this client had no mark yet when it was asked.
        """
        marks = self._bus._marks
        if not address.startswith(f"{INBOX_ROOM}:"):
            raise ValueError(f"{address} has no mark of its own. Give `since` as a time.")
        if address not in marks.known:
            began = marks.began.get(address) or self._heard.logs.get(address) or Position(0)
            await marks.begin(address, began.seq)
        return marks.known[address]

    async def _enter(self, subscription: Subscription, given_up: asyncio.Event) -> None:
        address = subscription.address
        try:
            async with self._turn(address):
                if given_up.is_set() or subscription.closed:
                    return
                marked = subscription.since == MARK
                since: Position | None = None if marked else await self._seq_of(address, subscription.since)

                def activate(result: dict[str, Any], since: Position | None) -> None:
                    if given_up.is_set() or subscription.closed:
                        return
                    epoch = result["epoch"]
                    if subscription.last is not None:
                        self._begin_with(subscription, result)
                        return
                    if since is None:
                        # Another iterator's `since` makes the server repeat older messages. This subscription skips them.
                        subscription._begin(address, Position(result["seq"], epoch))
                    else:
                        lost = result.get("recovered") is False
                        start = result["first_seq"] - 1 if lost else since.seq
                        subscription._begin(address, Position(start, epoch), gap=lost and (marked or since.seq > 0))
                    self._add(subscription)

                parts = subscription.parts or self._hears_parts(address)
                start = MARK if marked else since
                await self._join(address, start, activate, parts=parts, last=subscription.last)
        finally:
            self._opened(address)

    def _begin_with(self, subscription: Subscription, result: dict[str, Any]) -> None:
        """Start with the newest messages, which are in the answer."""
        address, messages = subscription.address, result.get("messages") or []
        start = messages[0]["seq"] - 1 if messages else result["seq"]
        subscription._begin(address, Position(start, result["epoch"]))
        self._add(subscription)
        for frame in messages:
            subscription._offer(address, frame)
        if messages and messages[-1]["seq"] < result["seq"]:
            subscription._follow(address, result["seq"])

    def _opened(self, address: str) -> None:
        self._opening[address] -= 1
        if not self._opening[address]:
            del self._opening[address]
        self._let_go(address)

    def _add(self, subscription: Subscription) -> None:
        self._heard.add(subscription)
        self._bus._show_growing(subscription)
        loop = asyncio.get_running_loop()
        weakref.finalize(subscription, self._forgotten, loop, subscription.address).atexit = False

    def _forgotten(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        """Handle a garbage-collected subscription, perhaps in another thread."""
        if not loop.is_closed() and self._bus._failure is None:
            loop.call_soon_threadsafe(self._let_go, address)

    async def detach(self, subscription: Subscription) -> None:
        """End a subscription. Leave its channel if nothing else needs it."""
        self._heard.remove(subscription)
        await self._leave_unused(subscription.address)

    def _let_go(self, address: str) -> None:
        self._heard.tidy(address)
        if address in self.members and not self._needed(address) and self._bus._failure is None:
            self._bus._spawn(self._leave_unused(address))

    # --- joining ------------------------------------------------------------------------------------------------------

    async def join(self, address: str) -> Joined:
        """Join a channel and stay a member. Raises ``ServerError``, ``TimeoutError``."""
        self._opening[address] += 1
        try:
            async with self._turn(address):
                joined = await self._join(address, None)
                self.kept.add(address)
                return joined
        finally:
            self._opened(address)

    async def _join(
        self,
        address: str,
        since: Position | str | None,
        activate: Callable[[dict[str, Any], Position | None], None] | None = None,
        *,
        parts: bool = True,
        ours: bool = False,
        last: int | None = None,
    ) -> Joined:
        """Join a channel, perhaps from its mark. ``activate`` gets the result and the start, before any later frame is handled.

        Without ``parts`` the server sends no parts of streamed messages.
        """
        parameters: dict[str, Any] = {"channel": address} if last is None else {"channel": address, "last": last}
        if not parts or address in self._quiet:
            parameters["parts"] = parts
            (self._quiet.discard if parts else self._quiet.add)(address)
        if isinstance(since, Position):
            parameters["since"] = since.seq
            if since.epoch is not None:
                parameters["epoch"] = since.epoch
        elif since is not None:
            parameters["since"] = since

        def joined(answer: dict[str, Any]) -> None:
            result = answer["result"]
            start = Position(result["mark"], result["epoch"]) if isinstance(since, str) else since
            self.members.add(address)
            self._heard.joined(address, result, start, ours=ours)
            if activate is not None:
                activate(result, start)

        frame = {"type": "command", "id": new_id(), "command": "join_channel", "parameters": parameters}
        try:
            answer = await self._bus._request(frame, repeat=True, timeout=None, on_answer=joined)
        except (TimeoutError, asyncio.CancelledError):
            self.members.add(address)  # Perhaps, since nobody waits for the answer any more.
            raise
        result: Joined = answer["result"]
        return result

    async def _rejoin(self, address: str) -> None:
        """Join a channel that the server did not restore by itself."""
        connections = self._bus.connections
        async with self._turn(address):
            while self._needed(address) and address not in self.members and connections == self._bus.connections:
                try:
                    parts = self._hears_parts(address) or not self._heard.listeners(address)
                    await self._join(address, self._heard.logs.get(address), parts=parts, ours=True)
                except ServerError as problem:
                    self.ended(address, problem)
                except TimeoutError:
                    self.members.discard(address)
                except (ConnectionLost, BusClosed):
                    return

    async def _seq_of(self, address: str, since: Since) -> Position | None:
        """Return a ``since`` as a seq. Raises ``ValueError`` for a text that is not a time, ``Forbidden`` …"""
        if since is None or isinstance(since, Position):
            return since
        if isinstance(since, int):
            return Position(since)
        moment = moment_of(since)
        try:
            if joinable(address):
                head = (await self._bus.channel_info(address))["seq"]
            else:
                head = self._heard.logs[address].seq
            page = await self._bus.history_page(address, after=moment, limit=1)
        except (NotFound, KeyError):
            return Position(0)
        first = page.messages[0].seq if page.messages else None
        return Position(head if first is None else min(head, first - 1))

    # --- leaving ------------------------------------------------------------------------------------------------------

    async def leave(self, address: str) -> list[str]:
        """Leave a channel and end its subscriptions. Returns the remaining addresses."""
        self.kept.discard(address)
        async with self._turn(address):
            left = await self._leave(address)
        for subscription in list(self._heard.listeners(address)):
            subscription._finish()
            self._heard.remove(subscription)
        return left

    async def _leave(self, address: str) -> list[str]:
        result = await self._bus._command("leave_channel", {"channel": address}, repeat=False)
        self.gone(address)
        left: list[str] = result["channels"]
        return left

    async def _leave_unused(self, address: str) -> None:
        async with self._turn(address):
            bus = self._bus
            if (
                not joinable(address)
                or self._needed(address)
                or address == bus.address
                or address not in self.members
                or bus._failure is not None
                or not bus._up.is_set()
            ):
                return
            try:
                await self._leave(address)
            except (ArqonBusError, TimeoutError) as problem:
                logger.debug("leaving %s: %s", address, problem)

    def gone(self, address: str, error: Exception | None = None) -> None:
        """Handle the end of a membership."""
        self.members.discard(address)
        self._quiet.discard(address)
        self._bus._growing.leave(address, error or BusClosed(f"The client left {address}."))
        self._heard.forget(address, self.members)

    def ended(self, address: str, error: Exception) -> None:
        """Handle an error that ended a membership and all of its subscriptions. Nothing joins the channel again."""
        self.kept.discard(address)
        self.gone(address, error)
        self._heard.fail(address, error)
