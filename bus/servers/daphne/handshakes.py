"""Daphne's HTTP connections, bounded; the usual handshakes of the bus go to ``light``.

Twisted answers a connection's next request as soon as the answer before it is in memory, and reads on without bound while an
answer waits. Here the next request waits until the client has taken the answer, and the bytes behind it stay unread. A
handshake with a body, which daphne would read whole, is refused at its headers. Nothing is read behind a handshake until it is
answered. ``install`` also names the statuses that Twisted lacks, and makes Autobahn's debug texts only when they are read.

Internals used, and no others: daphne's ``HTTPFactory.buildProtocol`` and ``WebRequest.process``, its WebSocket's
``serverAccept``, ``STATE_CONNECTING`` and ``access.AccessLogGenerator.write_entry``; Twisted's ``requestFactory``, ``_channel``,
``notifyFinish``, ``gotLength``, ``channel.requestDone``, ``resumeProducing``, ``rawDataReceived``, ``connectionLost``,
``requests``, ``persistent``, ``_handlingRequest``, ``_waitingForTransport``, ``_dataBuffer``, ``_optimisticEagerReadSize``,
``_networkProducer``, ``_respondToBadRequestAndDisconnect`` and ``RESPONSES``; its transports' ``abortConnection``,
``pauseProducing``, ``resumeProducing`` and ``unregisterProducer``; in ``autobahn.websocket.protocol`` and
``autobahn.twisted.websocket`` the names ``pformat``, ``hltype`` and ``hlval``, and ``Timings.__str__``, which needs its text at
once.
"""

from __future__ import annotations

import itertools
import pprint
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from ...monitoring.log_lines import without_secrets
from ..http_connections import HttpConnection, HttpConnections, check_framing
from .writer import buffered_in


def install() -> None:
    """Bound daphne's HTTP connections in this process. Done once."""
    from daphne import access, http_protocol

    from . import light

    if hasattr(http_protocol.HTTPFactory, "arqonbus_connections"):
        return
    _name_statuses()
    _quieten()
    connections = HttpConnections()
    request, channel = _request_class(connections, http_protocol), _channel_class(connections, http_protocol)
    build: Any = http_protocol.HTTPFactory.buildProtocol

    def first(self: Any, address: Any) -> Any:
        sockets = light.sockets_of(self)
        if sockets is None:
            return bounded(self, address)
        made = light.First(sockets, _host(address), connections, lambda: bounded(self, address))
        # Twisted closes the socket of a connection that gets no protocol.
        return made if made.admitted() else None

    def bounded(self: Any, address: Any) -> Any:
        protocol = build(self, address)
        protocol.requestFactory = request
        made = protocol._channel
        # The same object, with more methods.
        made.__class__ = channel
        made.arqonbus_connection = connection = _connection(made, _host(address))
        return protocol if connections.add(connection) else None

    write: Any = access.AccessLogGenerator.write_entry

    def write_entry(self: Any, host: Any, date: Any, request: str, *args: Any, **options: Any) -> None:
        write(self, host, date, without_secrets(request), *args, **options)

    http_protocol.HTTPFactory.buildProtocol = first
    http_protocol.HTTPFactory.arqonbus_connections = connections
    access.AccessLogGenerator.write_entry = write_entry


def _host(address: Any) -> str:
    return str(getattr(address, "host", ""))


def _connection(channel: Any, address: str) -> HttpConnection:
    debts = itertools.count(1)
    channel.arqonbus_debt = next(debts)
    channel.arqonbus_debts = debts

    def buffered() -> int:
        # TLS keeps what waits to itself.
        return buffered_in(channel.transport) if hasattr(channel.transport, "_tempDataLen") else 0

    def abort() -> None:
        if hasattr(channel.transport, "abortConnection"):
            channel.transport.abortConnection()

    return HttpConnection(
        address,
        buffered=buffered,
        abort=abort,
        owed=lambda: channel.arqonbus_debt,
        answering=lambda: channel.arqonbus_debt is None,
    )


def _request_class(connections: HttpConnections, http_protocol: Any) -> Any:
    class BoundedRequest(http_protocol.WebRequest):
        _refused = False

        def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
            try:
                check_framing(
                    (name, value) for name, values in self.requestHeaders.getAllRawHeaders() for value in values
                )
            except ValueError:
                # The bytes that came in the same segment are still read, and ignored.
                self._refused, length = True, 0
                self.channel._respondToBadRequestAndDisconnect()
            super().gotLength(length)

        def process(self) -> Any:
            if self._refused:
                return None
            channel = self.channel
            channel.arqonbus_debt = None

            def answered(_: Any) -> None:
                channel.arqonbus_debt = next(channel.arqonbus_debts)

            self.notifyFinish().addCallbacks(answered, lambda _: None)
            done = super().process()
            if self.transport is None:
                # It is a WebSocket now. Channel and request hold each other; apart, they go without the garbage collector.
                # As its producer, the transport would hold both for the WebSocket's whole life (3 KiB a connection).
                connections.remove(channel.arqonbus_connection)
                channel.requests.clear()
                self.notifications.clear()
                channel.transport.unregisterProducer()
                _wait_for_the_answer(channel.transport)
            return done

    return BoundedRequest


def _wait_for_the_answer(transport: Any) -> None:
    """Read nothing from a new WebSocket until its handshake is answered. Autobahn would take it for another handshake."""
    protocol = getattr(transport, "wrappedProtocol", None) or transport.protocol
    if getattr(protocol, "state", None) != getattr(protocol, "STATE_CONNECTING", object()):
        return

    def accept(*args: Any) -> None:
        del protocol.serverAccept
        protocol.serverAccept(*args)
        transport.resumeProducing()

    protocol.serverAccept = accept
    transport.pauseProducing()


def _channel_class(connections: HttpConnections, http_protocol: Any) -> Any:
    class BoundedChannel(http_protocol.http.HTTPChannel):
        # A request whose answer is complete, but still waits for the client.
        arqonbus_done: Any = None

        def requestDone(self, request: Any) -> None:  # noqa: N802 - Twisted's names
            if self._waitingForTransport and self.persistent:
                self.arqonbus_done = request
            else:
                super().requestDone(request)

        def resumeProducing(self) -> None:  # noqa: N802
            super().resumeProducing()
            done, self.arqonbus_done = self.arqonbus_done, None
            if done is not None:
                super().requestDone(done)

        def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
            super().rawDataReceived(data)
            if (
                self._handlingRequest
                and self._waitingForTransport
                and sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize
            ):
                # Twisted expects that reading was paused when the wait began; that is so between requests only.
                self._networkProducer.pauseProducing()

        def connectionLost(self, reason: Any) -> None:  # noqa: N802
            connections.remove(self.arqonbus_connection)
            if self.arqonbus_done in self.requests:
                self.requests.remove(self.arqonbus_done)
            super().connectionLost(reason)

    return BoundedChannel


def _name_statuses() -> None:
    """Give Twisted the reason phrases that it lacks: a 429 would go out as "Unknown Status"."""
    from twisted.web import http

    for status in HTTPStatus:
        http.RESPONSES.setdefault(status.value, status.phrase.encode("ascii"))


class _Later:
    """A text that is made when it is read."""

    __slots__ = ("_arguments", "_make", "_options")

    def __init__(self, make: Callable[..., str], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._make = make
        self._arguments = arguments
        self._options = options

    def __str__(self) -> str:
        return self._make(*self._arguments, **self._options)

    __repr__ = __str__

    def __format__(self, form: str) -> str:
        return format(str(self), form)


def _later(make: Callable[..., str]) -> Callable[..., Any]:
    def remembered(*arguments: Any, **options: Any) -> _Later:
        return _Later(make, arguments, options)

    return remembered


def _quieten() -> bool:
    """Make Autobahn's debug texts only when they are read. Returns whether Autobahn is as expected.

    Autobahn formats the table of its options for each connection, and coloured names for each read, as arguments of debug lines
    below the log's level. That was a tenth of the cost of a connection. Autobahn has to be loaded already: the order in which
    Twisted's parts are imported matters to it.
    """
    twisted: Any = sys.modules.get("autobahn.twisted.websocket")
    protocol: Any = sys.modules.get("autobahn.websocket.protocol")
    if getattr(protocol, "pformat", None) is not pprint.pformat or not hasattr(protocol, "Timings"):
        return False
    protocol.Timings.__str__ = lambda self: pprint.pformat(self._timings)
    protocol.pformat = _later(pprint.pformat)
    for module in (twisted, protocol):
        for name in ("hltype", "hlval"):
            if hasattr(module, name):
                setattr(module, name, _later(getattr(module, name)))
    return True
