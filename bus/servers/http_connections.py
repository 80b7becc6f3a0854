"""Limits of HTTP connections, from the moment they open until they end or become a WebSocket.

Each connection is checked at least once a second. It is cut when its client owes a request, or the rest of one, for longer than
``handshake_timeout``; and when its client takes nothing of an answer for ``send_deadline``. One network address may have
``connections_per_address`` of them. This machine's own addresses and those behind a trusted proxy are not counted.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Hashable, Iterable

from ..conf.settings import config
from ..monitoring import metrics
from ..protocol.limits import holder_of


class HttpConnection:
    """One connection, as its server's adapter describes it.

    ``buffered`` returns the bytes that wait for the client; ``abort`` cuts the connection. ``owed`` returns what the client owes:
    any value that stays the same while the debt is the same, or None for nothing. ``answering`` returns whether more of the
    answer may still be written.
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
        # The network that the connection counts for; empty when it is not counted.
        self.holder = "" if _not_counted(address) else holder_of(address)
        self.buffered, self.abort, self.owed, self.answering = buffered, abort, owed, answering
        self.debt: Hashable = None
        # Since when the client owes that, and since when it takes nothing of what waits (times of the loop).
        self.since = self.stuck_since = 0.0
        self.waiting = 0


class HttpConnections:
    """The HTTP connections of a process."""

    def __init__(self) -> None:
        self._connections: dict[HttpConnection, None] = {}
        self._by_holder: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: HttpConnection) -> bool:
        """Watch a new connection. Returns False when its address has too many; the caller then has to cut it."""
        limit = config().connections_per_address
        if connection.holder:
            counted = self._by_holder.get(connection.holder, 0)
            if limit and counted >= limit:
                metrics.limits.labels("lines_per_address").inc()
                return False
            self._by_holder[connection.holder] = counted + 1
        loop = asyncio.get_running_loop()
        connection.debt, connection.since = connection.owed(), loop.time()
        self._connections[connection] = None
        if self._timer is None:
            self._timer = loop.call_later(_interval(), self._check_all)
        return True

    def upgraded(self, connection: HttpConnection) -> None:
        """The connection is about to become a WebSocket: count it no more, but watch it until its handshake is over."""
        holder, connection.holder = connection.holder, ""
        if holder and connection in self._connections:
            left = self._by_holder.get(holder, 1) - 1
            if left > 0:
                self._by_holder[holder] = left
            else:
                self._by_holder.pop(holder, None)

    def remove(self, connection: HttpConnection) -> None:
        """The connection has ended, or has become a WebSocket."""
        self.upgraded(connection)
        self._connections.pop(connection, None)

    def _check_all(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        for connection in list(self._connections):
            self._check(connection, now)
        if self._connections:
            self._timer = loop.call_later(_interval(), self._check_all)

    def _check(self, connection: HttpConnection, now: float) -> None:
        settings = config()
        waiting, before = connection.buffered(), connection.waiting
        connection.waiting = waiting
        if waiting:
            # While more is written, what the client takes cannot be seen; then any change counts as progress.
            if not before or waiting < before or (waiting > before and connection.answering()):
                connection.stuck_since = now
            elif now - connection.stuck_since >= settings.send_deadline:
                metrics.limits.labels("unread_answer").inc()
                self._cut(connection)
            # The client owes its next request once it has this answer.
            connection.debt = None
            return
        debt = connection.owed()
        if debt is None or debt != connection.debt:
            connection.debt, connection.since = debt, now
        elif settings.handshake_timeout and now - connection.since >= settings.handshake_timeout:
            metrics.limits.labels("handshake_timeout").inc()
            self._cut(connection)

    def _cut(self, connection: HttpConnection) -> None:
        self.remove(connection)
        connection.abort()


def check_framing(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise ``ValueError`` for a request whose body has two lengths, and for a handshake with a body.

    A proxy in front that goes by the other length would take the rest of the body for another client's request. The bytes after a
    handshake belong to the WebSocket, and no client sends any before the handshake is answered.
    """
    # One plain pass, since it is in the way of each connection.
    length = encoded = handshake = False
    body = b""
    for name, value in headers:
        name = name.lower()
        if name == b"content-length":
            length = True
            body += value.strip().strip(b"0")
        elif name == b"transfer-encoding":
            encoded = True
        elif name == b"upgrade" and b"websocket" in value.lower():
            handshake = True
    if length and encoded:
        raise ValueError("a body of two lengths")
    if handshake and (encoded or body):
        raise ValueError("a handshake with a body")


def _interval() -> float:
    """Seconds between two checks."""
    settings = config()
    return min(1.0, settings.send_deadline / 4, settings.handshake_timeout / 4 or 1.0)


def _not_counted(address: str) -> bool:
    """Whether many clients may share an address: none (a Unix socket), this machine's own, that of a trusted proxy."""
    if config().trusted_proxies:
        return True
    try:
        return not address or ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return True
