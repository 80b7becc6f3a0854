"""Daphne's lines of HTTP, bounded.

Twisted answers the next request of a line as soon as the answer to the one before it is in memory, and while an answer waits it
reads on without bound; here the next one waits until the peer has taken the answer, and what follows it stays unread. A handshake
with a body, which daphne would read whole, is refused at its headers; nothing is read behind a handshake until it is answered.

Internals used, and nothing else of them: daphne's ``HTTPFactory.buildProtocol`` and ``WebRequest.process``, its WebSocket's
``serverAccept``, ``STATE_CONNECTING`` and ``access.AccessLogGenerator.write_entry``; Twisted's ``requestFactory``, ``_channel``,
``notifyFinish``, ``gotLength``, ``channel.requestDone``, ``resumeProducing``, ``rawDataReceived``, ``connectionLost``,
``requests``, ``persistent``, ``_handlingRequest``, ``_waitingForTransport``, ``_dataBuffer``, ``_optimisticEagerReadSize``,
``_networkProducer`` and ``_respondToBadRequestAndDisconnect``; its transports' ``dataBuffer``, ``offset``, ``_tempDataLen``,
``abortConnection``, ``pauseProducing``, ``resumeProducing`` and ``unregisterProducer``.
"""

from __future__ import annotations

import itertools
from typing import Any

from ...monitoring.log_lines import without_secrets
from ..handshakes import check_framing
from ..lines import Line, Lines


def install() -> None:
    """Teach daphne's HTTP side its bounds, for this process; done once."""
    from daphne import access, http_protocol

    if hasattr(http_protocol.HTTPFactory, "arqonbus_lines"):
        return
    lines = Lines()
    request, channel = _request_class(lines, http_protocol), _channel_class(lines, http_protocol)
    build: Any = http_protocol.HTTPFactory.buildProtocol

    def bounded(self: Any, address: Any) -> Any:
        protocol = build(self, address)
        protocol.requestFactory = request
        made = protocol._channel
        # The same object, with more methods.
        made.__class__ = channel
        made.arqonbus_line = line = _line(made, str(getattr(address, "host", "")))
        # Of a connection without a protocol Twisted closes the socket.
        return protocol if lines.add(line) else None

    write: Any = access.AccessLogGenerator.write_entry

    def write_entry(self: Any, host: Any, date: Any, request: str, *args: Any, **options: Any) -> None:
        write(self, host, date, without_secrets(request), *args, **options)

    http_protocol.HTTPFactory.buildProtocol = bounded
    http_protocol.HTTPFactory.arqonbus_lines = lines
    access.AccessLogGenerator.write_entry = write_entry


def _line(channel: Any, address: str) -> Line:
    debts = itertools.count(1)
    channel.arqonbus_debt = next(debts)
    channel.arqonbus_debts = debts

    def buffered() -> int:
        transport = channel.transport
        if not hasattr(transport, "_tempDataLen"):
            return 0  # TLS keeps what waits to itself.
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return waiting

    def abort() -> None:
        if hasattr(channel.transport, "abortConnection"):
            channel.transport.abortConnection()

    return Line(
        address,
        buffered=buffered,
        abort=abort,
        owed=lambda: channel.arqonbus_debt,
        answering=lambda: channel.arqonbus_debt is None,
    )


def _request_class(lines: Lines, http_protocol: Any) -> Any:
    class BoundedRequest(http_protocol.WebRequest):
        _refused = False

        def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
            try:
                check_framing(
                    (name, value) for name, values in self.requestHeaders.getAllRawHeaders() for value in values
                )
            except ValueError:
                # What came with it in one segment is read yet, and nothing is made of it.
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
                # It is a WebSocket now. Channel and request hold each other; apart, they need no garbage collector to go.
                # The transport would hold both for the WebSocket's whole life, as the producer to pause (3 KiB a connection).
                lines.remove(channel.arqonbus_line)
                channel.requests.clear()
                self.notifications.clear()
                channel.transport.unregisterProducer()
                _wait_for_the_answer(channel.transport)
            return done

    return BoundedRequest


def _wait_for_the_answer(transport: Any) -> None:
    """Read nothing from a new WebSocket until its handshake is answered: Autobahn would take it for another handshake."""
    protocol = getattr(transport, "wrappedProtocol", None) or transport.protocol
    if getattr(protocol, "state", None) != getattr(protocol, "STATE_CONNECTING", object()):
        return

    def accept(*args: Any) -> None:
        del protocol.serverAccept
        protocol.serverAccept(*args)
        transport.resumeProducing()

    protocol.serverAccept = accept
    transport.pauseProducing()


def _channel_class(lines: Lines, http_protocol: Any) -> Any:
    class BoundedChannel(http_protocol.http.HTTPChannel):
        # A request whose answer is complete and has not left yet.
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
                # Twisted trusts that it was paused when it began to wait, but only between requests it is.
                self._networkProducer.pauseProducing()

        def connectionLost(self, reason: Any) -> None:  # noqa: N802
            lines.remove(self.arqonbus_line)
            if self.arqonbus_done in self.requests:
                self.requests.remove(self.arqonbus_done)
            super().connectionLost(reason)

    return BoundedChannel
