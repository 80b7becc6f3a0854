"""The topics that this process follows over one link: joined together, joined anew after a fault, and watched."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable

from .health import ECHO_TIMEOUT, LinkHealth
from .link import Link
from .messages import to_layer

#: How soon after a fault the link is tried again, in seconds. A layer that answers by then was not away: one connection of its
#: pool was broken. Connections that outlived a restart of Redis fail once each.
RETRY = 0.25

#: The most seconds between two checks of a link that seems to work.
CHECK_INTERVAL = 2.0


class Following:
    """The topics of one link, and the loop that keeps them joined."""

    def __init__(
        self, link: Link, health: LinkHealth, *, always: Iterable[str], reconnected: Callable[[], None]
    ) -> None:
        self._link = link
        self._health = health
        # Called once the link works again: notifications of the meantime are lost.
        self._reconnected = reconnected
        # A topic that no other process follows, over which the process receives its own messages.
        self._echo_topic = f"echo.{secrets.token_hex(8)}"
        self._always = (self._echo_topic, *always)
        self._wanted: set[str] = set(self._always)
        # Who waits for a topic to be joined, and the topics to be left. Both happen together with others'.
        self._joining: dict[str, asyncio.Future[None]] = {}
        self._leaving: set[str] = set()
        # Topics that were added while the link was down.
        self._missed: set[str] = set()
        self._change = asyncio.Event()
        # Set by every message that comes over the link.
        self._received = asyncio.Event()

    async def join_first(self) -> None:
        """Join the topics that this process always follows."""
        await self._join([*self._always])

    async def leave_all(self) -> None:
        """Leave all topics. Raises what the link raises."""
        await self._link.leave([*self._wanted])

    # --- topics ---------------------------------------------------------------------------------------------------------

    def add(self, topic: str) -> asyncio.Future[None] | None:
        """Follow a topic from now on. Return what is done once it is joined; None for one that is joined already.

        While the link is down nothing is waited for: the looks at the log find the messages.
        """
        if topic not in self._wanted:
            self._wanted.add(topic)
            if topic in self._leaving:
                self._leaving.discard(topic)  # Still joined.
            elif self._health.connected:
                self._join_soon(topic)
            else:
                self._missed.add(topic)
        return self._joining.get(topic)

    def _join_soon(self, topic: str) -> None:
        if topic not in self._joining:
            self._joining[topic] = asyncio.get_running_loop().create_future()
            self._change.set()

    def remove(self, topic: str) -> None:
        """Follow a topic no longer."""
        if topic in self._wanted:
            self._wanted.discard(topic)
            self._leaving.add(topic)
            self._change.set()

    async def change(self) -> None:
        """Join and leave topics, many at once, until cancelled."""
        while True:
            await self._change.wait()
            self._change.clear()
            joining = [*self._joining]
            leaving = self._leaving.difference(joining)
            # A topic that is left while it is still being joined is left in the next turn.
            self._leaving.intersection_update(joining)
            if joining:
                await self._join(joining)
                for topic in joining:
                    del self._joining[topic]
            if leaving and self._health.connected:
                await self._leave([*leaving])
            if self._leaving:
                self._change.set()

    # --- keeping them ---------------------------------------------------------------------------------------------------

    def message_received(self) -> None:
        """Note that the link brought a message, whosever it is."""
        self._received.set()

    async def run(self) -> None:
        """Keep the topics joined until cancelled."""
        health, renewal = self._health, self._link.renewal
        period = CHECK_INTERVAL if renewal is None else min(renewal, CHECK_INTERVAL)
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            if health.connected:
                await health.wait_for_fault(period)
            if not health.connected:
                if await self._recover():
                    renewed = clock()
                    health.recovered()
                    for topic in self._missed & self._wanted:
                        # Those that came too late for :meth:`_join_all` are not joined yet.
                        self._join_soon(topic)
                    self._missed.clear()
                    self._reconnected()
            elif renewal is not None and clock() - renewed >= renewal:
                renewed = clock()
                await self._join_all()
            elif await self._checked():
                await self._echo()

    async def _recover(self) -> bool:
        """One try after a fault; whether the link works."""
        await asyncio.sleep(RETRY)
        if self._health.stale:
            self._health.stale = False
            await self._link.reconnect()
        if await self._join_all() and await self._echo():
            return True
        # Connections that do not work by now never will.
        self._health.stale = True
        self._health.report_lost()
        return False

    async def _checked(self) -> bool:
        try:
            await self._link.check()
        except Exception as problem:  # noqa: BLE001 - a link may raise anything
            self._health.failed(problem)
            return False
        return True

    async def _echo(self) -> bool:
        """Whether a message of this process comes back through the link, or any other message meanwhile.

        A layer that takes messages may still bring none: a Redis may forbid its user to read, or be two servers.
        """
        self._received.clear()
        self._health.echo_sent()
        try:
            await self._link.send([(self._echo_topic, to_layer([], self._link.name))])
        except Exception as problem:  # noqa: BLE001 - a link may raise anything
            self._health.failed(problem)
            return False
        try:
            async with asyncio.timeout(ECHO_TIMEOUT):
                await self._received.wait()
        except TimeoutError:
            self._health.echo_missing()
            return False
        self._health.echo_received()
        return True

    async def _join_all(self) -> bool:
        """Join every topic, also those that are added meanwhile; whether that succeeded."""
        joined: set[str] = set()
        while missing := self._wanted - joined:
            if not await self._join([*missing]):
                return False
            joined |= missing
        return True

    async def _join(self, topics: list[str]) -> bool:
        """Join topics, and let those go on who wait for them. Return whether that succeeded."""
        try:
            await self._link.join(topics)
        except Exception as problem:  # noqa: BLE001 - a link may raise anything
            # Who may not join receives nothing; the listener itself may hear of the refusal later than this.
            self._health.receive_failed(problem)
            return False
        finally:
            # After a fault they go on as well: :meth:`run` joins the topics once the link is back.
            for topic in topics:
                if (done := self._joining.get(topic)) is not None and not done.done():
                    done.set_result(None)
        return True

    async def _leave(self, topics: list[str]) -> None:
        try:
            await self._link.leave(topics)
        except Exception as problem:  # noqa: BLE001 - a link may raise anything
            self._health.failed(problem)
