"""Lines of HTTP, from the moment they open until they end or become a WebSocket: how many, what they owe, what waits for them.

Each line is looked at once a second at least. One that owes a request, or the rest of one, for longer than
``handshake_timeout`` ends; so does one whose peer takes nothing of an answer for ``send_deadline``. From one network address
there are ``connections_per_address`` of them at most; this machine's own, and those behind a trusted proxy, are not counted.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Hashable

from ..conf.settings import config
from ..monitoring import metrics
from ..protocol.limits import holder_of


class Line:
    """One of them. ``buffered`` tells the bytes that wait for the peer, ``abort`` cuts it.

    ``owed`` tells what the peer owes: anything that is the same as long as it is the same debt, None for nothing.
    ``answering`` tells whether more may still be written.
    """

    __slots__ = ("abort", "answering", "buffered", "debt", "holder", "owed", "since", "stuck_since", "waiting")

    def __init__(
        self,
        address: str,
        *,
        buffered: Callable[[], int],
        abort: Callable[[], object],
        owed: Callable[[], Hashable],
        answering: Callable[[], bool],
    ) -> None:
        # Whose line it is, where that is counted.
        self.holder = "" if _not_counted(address) else holder_of(address)
        self.buffered, self.abort, self.owed, self.answering = buffered, abort, owed, answering
        self.debt: Hashable = None
        # Since when it owes that, and since when the peer takes nothing of what waits.
        self.since = self.stuck_since = 0.0
        self.waiting = 0


class Lines:
    """The lines of a process."""

    def __init__(self) -> None:
        self._lines: dict[Line, None] = {}
        self._by_holder: dict[str, int] = {}
        self._look_at: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: Line) -> bool:
        """Take a line in; False when there are too many from its address, and it has to be cut."""
        limit = config().connections_per_address
        if line.holder:
            counted = self._by_holder.get(line.holder, 0)
            if limit and counted >= limit:
                metrics.limits.labels("lines_per_address").inc()
                return False
            self._by_holder[line.holder] = counted + 1
        loop = asyncio.get_running_loop()
        line.debt, line.since = line.owed(), loop.time()
        self._lines[line] = None
        if self._look_at is None:
            self._look_at = loop.call_later(_interval(), self._look)
        return True

    def upgraded(self, line: Line) -> None:
        """It is about to become a WebSocket, which is counted elsewhere; until its handshake is over it is still looked at."""
        holder, line.holder = line.holder, ""
        if holder and line in self._lines:
            left = self._by_holder.get(holder, 1) - 1
            if left > 0:
                self._by_holder[holder] = left
            else:
                self._by_holder.pop(holder, None)

    def remove(self, line: Line) -> None:
        """It is over, or a WebSocket."""
        self.upgraded(line)
        self._lines.pop(line, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._look_at = None
        for line in list(self._lines):
            self._look_at_one(line, now)
        if self._lines:
            self._look_at = loop.call_later(_interval(), self._look)

    def _look_at_one(self, line: Line, now: float) -> None:
        settings = config()
        waiting, before = line.buffered(), line.waiting
        line.waiting = waiting
        if waiting:
            # What is still being written hides what the peer takes; then any change counts as that.
            if not before or waiting < before or (waiting > before and line.answering()):
                line.stuck_since = now
            elif now - line.stuck_since >= settings.send_deadline:
                metrics.limits.labels("unread_answer").inc()
                self._cut(line)
            # Its next request is due once it has this answer.
            line.debt = None
            return
        debt = line.owed()
        if debt is None or debt != line.debt:
            line.debt, line.since = debt, now
        elif settings.handshake_timeout and now - line.since >= settings.handshake_timeout:
            metrics.limits.labels("handshake_timeout").inc()
            self._cut(line)

    def _cut(self, line: Line) -> None:
        self.remove(line)
        line.abort()


def _interval() -> float:
    """Seconds between two looks."""
    settings = config()
    return min(1.0, settings.send_deadline / 4, settings.handshake_timeout / 4 or 1.0)


def _not_counted(address: str) -> bool:
    """Whether an address may stand for everybody: none (a Unix socket), this machine's own, that of a trusted proxy."""
    if config().trusted_proxies:
        return True
    try:
        return not address or ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return True
