"""Connections that open and then say their request slowly, or not at all, end after ``handshake_timeout``.

Daphne ends a connection that is silent for a minute, but a byte now and then keeps it for ever; uvicorn waits for ever by
itself. A request has to be there as a whole within the time, its body included (on uvicorn: its head).

A request whose body has two lengths is refused on both: daphne does so by itself.

Internals used, and nothing else of them: daphne's ``HTTPFactory.buildProtocol`` and ``WebRequest.process``; Twisted's
``requestFactory``, ``_channel``, ``channel.transport.abortConnection``, ``notifyFinish``; uvicorn's protocol classes with
``connection_made``, ``on_headers_complete``, ``headers``, ``conn``, ``cycle``, ``transport``, ``loop``, and
``handshake_complete`` of its WebSocket's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from ..conf import config


class _Waiting:
    """Daphne's connections that owe a request, oldest first."""

    def __init__(self) -> None:
        self._since: dict[Any, float] = {}
        self._scheduled = False

    def owes(self, channel: Any) -> None:
        """A request is due on ``channel`` from now on."""
        self._since.pop(channel, None)
        self._since[channel] = time.monotonic()
        self._schedule()

    def paid(self, channel: Any) -> None:
        """Its request is there."""
        self._since.pop(channel, None)

    def _schedule(self) -> None:
        if not self._scheduled:
            from twisted.internet import reactor

            self._scheduled = True
            clock: Any = reactor
            clock.callLater(min(1.0, config().handshake_timeout), self._look)

    def _look(self) -> None:
        self._scheduled = False
        limit = time.monotonic() - config().handshake_timeout
        while self._since:
            channel = next(iter(self._since))
            if self._since[channel] > limit:
                break
            del self._since[channel]
            transport = getattr(channel, "transport", None)
            if transport is not None and hasattr(transport, "abortConnection"):
                transport.abortConnection()
        if self._since:
            self._schedule()


def install_on_daphne() -> None:
    """Teach daphne's HTTP side the deadline, for this process; done once, and nothing when the setting is 0."""
    from daphne import http_protocol

    if not config().handshake_timeout or hasattr(http_protocol.HTTPFactory, "arqonbus_waiting"):
        return
    waiting = _Waiting()
    build: Any = http_protocol.HTTPFactory.buildProtocol

    class TimedRequest(http_protocol.WebRequest):
        def process(self) -> Any:
            channel = self.channel
            waiting.paid(channel)
            if not self.requestHeaders.hasHeader(b"Upgrade"):
                # The connection may be kept for a next request, which is due then.
                self.notifyFinish().addCallbacks(lambda _: waiting.owes(channel), lambda _: None)
            done = super().process()
            if self.transport is None:
                # It is a WebSocket now. Channel and request hold each other; apart, they need no garbage collector to go.
                channel.requests.clear()
            return done

    def timed(self: Any, address: Any) -> Any:
        protocol = build(self, address)
        protocol.requestFactory = TimedRequest
        waiting.owes(protocol._channel)
        return protocol

    http_protocol.HTTPFactory.buildProtocol = timed
    http_protocol.HTTPFactory.arqonbus_waiting = waiting


def _one_length(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise ``ValueError`` for a request whose body has two lengths.

    A proxy in front that goes by the other one would take the rest of the body for somebody else's request.
    """
    names = {name.lower() for name, _ in headers}
    if b"content-length" in names and b"transfer-encoding" in names:
        raise ValueError("a body of two lengths")


def on_uvicorn(protocol: Any) -> Any:
    """uvicorn's HTTP protocol class with the deadline, and without bodies of two lengths."""
    limit = config().handshake_timeout

    class TimedProtocol(protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if hasattr(self, "conn"):
                self.conn.next_event = self._of_h11(self.conn.next_event)
            self._request_due = self.loop.call_later(limit, self._late) if limit else None

        def _late(self) -> None:
            if self.transport is None:
                return
            now = self.transport.get_protocol()
            # A handshake that the WebSocket's side could not read, such as one of a too long line, is never answered by it.
            owes = self.cycle is None if now is self else not getattr(now, "handshake_complete", True)
            if owes:
                self.transport.abort()

        def on_headers_complete(self) -> None:
            # Of httptools; what is raised here makes it a bad request.
            _one_length(self.headers)
            super().on_headers_complete()

        @staticmethod
        def _of_h11(next_event: Callable[[], Any]) -> Callable[[], Any]:
            from h11 import RemoteProtocolError, Request

            def checked() -> Any:
                event = next_event()
                if isinstance(event, Request):
                    try:
                        _one_length(event.headers)
                    except ValueError as problem:
                        raise RemoteProtocolError(str(problem)) from None
                return event

            return checked

        def connection_lost(self, problem: Exception | None) -> None:
            if self._request_due is not None:
                self._request_due.cancel()
            super().connection_lost(problem)

    return TimedProtocol
