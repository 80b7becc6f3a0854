"""The light connections of one server of daphne: which handshakes they take, their pings and times, and their end.

Daphne walks over its connections every two seconds, and has four objects for each. A light connection is an entry in a set here,
and daphne's options are honoured as daphne does it.

Internals used, and no others: daphne's ``Server`` with ``application``, ``ws_factory``, ``action_logger``, ``root_path``,
``proxy_forwarded_address_header``, ``proxy_forwarded_port_header``, ``proxy_forwarded_proto_header``, ``ping_interval``,
``ping_timeout``, ``websocket_timeout``, ``application_close_timeout``, ``log_action``, and ``utils.parse_x_forwarded_for``;
Autobahn's ``factory`` with ``server``, ``headers``, ``tcpNoDelay``, ``closeHandshakeTimeout``, ``maxMessagePayloadSize``,
``maxFramePayloadSize``, ``allowNullOrigin``, ``perMessageCompressionAccept`` and the options that ``usual`` compares.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import struct
import sys
import time
from base64 import b64encode
from typing import Any

from ....realtime.frame import MAX_FRAME
from ....realtime.reader import LARGEST
from ...adapter import Pings, Plain
from ..reader import set_pings
from .connection import Access, Light
from .grammar import Head, read_head
from .parser import Parsers

logger = logging.getLogger("daphne.server")

#: Seconds between two looks at the connections, as daphne has it.
LOOK = 2.0
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Sockets:
    """The light connections of ``server``, whose sockets ``plain`` may take (:data:`bus.servers.adapter.Plain`)."""

    def __init__(self, server: Any, plain: Plain) -> None:
        self.server = server
        self.parsers = Parsers(server.ws_factory)
        factory = server.ws_factory
        bounds = (factory.maxMessagePayloadSize, factory.maxFramePayloadSize)
        #: The longest text that the reader takes.
        self.largest = min(LARGEST, *(min(bound or MAX_FRAME, MAX_FRAME) for bound in bounds))
        self._plain = plain
        self._lights: set[Light] = set()
        # Connections that wait for the answer to a ping, each with its deadline, the earliest first.
        self._pinged: dict[Light, float] = {}
        self._pings = 0
        # Connections that are lost and whose consumers still work, each with the time of its loss.
        self._ending: dict[Light, float] = {}
        self._look: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._lights)

    # --- the handshake ----------------------------------------------------------------------------------------------

    def take(self, transport: Any, data: bytes) -> Light | None:
        """Answer a usual handshake for a plain consumer, and make its connection.

        None for anything else; nothing is done then.
        """
        if (found := self.read(data, transport)) is None:
            return None
        head, scope = found
        consumer = self._plain(scope)
        if consumer is None:
            return None
        access = None
        if self.server.action_logger:
            client = scope["client"]
            access = (sys.intern(scope["path"]), f"{client[0]}:{client[1]}" if client else None)
        self._log("connecting", access)
        if self.server.ws_factory.tcpNoDelay:
            _send_at_once(transport)
        light = Light(self, transport, access)
        transport.protocol = light
        _write(transport, self.answer(head, consumer.subprotocol(scope)))
        self._lights.add(light)
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK, self._look_at_all)
        self._log("connected", access)
        light.serve(consumer, scope)
        return light

    def read(self, data: bytes, transport: Any) -> tuple[Head, dict[str, Any]] | None:
        """Read a usual handshake. Returns its head and ASGI scope."""
        head = read_head(data)
        return (head, self.scope_of(head, transport)) if head is not None and self._agrees(head) else None

    def _agrees(self, head: Head) -> bool:
        """Whether Autobahn would take this origin, and refuse this offer of compression."""
        factory = self.server.ws_factory
        if head.origin == b"null" and not factory.allowNullOrigin:
            return False
        return not head.offer or factory.perMessageCompressionAccept(_offers(head.offer)) is None

    def scope_of(self, head: Head, transport: Any) -> dict[str, Any]:
        """The ASGI scope that daphne would make of a handshake."""
        server = self.server
        peer, host = transport.getPeer(), transport.getHost()
        client = here = None
        if hasattr(peer, "host") and hasattr(peer, "port"):
            client, here = [str(peer.host), peer.port], [str(host.host), host.port]
        if server.proxy_forwarded_address_header:
            from daphne.utils import parse_x_forwarded_for

            client, _ = parse_x_forwarded_for(
                dict(head.headers),
                server.proxy_forwarded_address_header,
                server.proxy_forwarded_port_header,
                server.proxy_forwarded_proto_header,
                client,
            )
        return {
            "type": "websocket",
            "path": head.path.decode("ascii"),
            "raw_path": head.path,
            "root_path": server.root_path,
            "headers": head.headers,
            "query_string": head.query,
            "client": client,
            "server": here,
            "subprotocols": head.protocols,
            "asgi": {"version": "3.0"},
        }

    def answer(self, head: Head, subprotocol: str | None) -> bytes:
        """The answer to a handshake, byte for byte as Autobahn's."""
        accept = b64encode(hashlib.sha1(head.key + _MAGIC).digest())  # noqa: S324 - RFC 6455 demands it
        lines = [b"HTTP/1.1 101 Switching Protocols"]
        if name := self.server.ws_factory.server:
            lines.append(b"Server: " + name.encode())
        lines += [b"Upgrade: WebSocket", b"Connection: Upgrade"]
        if subprotocol is not None:
            lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode())
        return b"\r\n".join([*lines, b"Sec-WebSocket-Accept: " + accept, b"", b""])

    def _log(self, action: str, access: Access | None) -> None:
        if access is not None:
            path, client = access
            self.server.log_action("websocket", action, {"path": path, "client": client})

    # --- pings ------------------------------------------------------------------------------------------------------

    def set_pings(self, pings: Pings) -> None:
        """Ping by the bus's settings, unless the command line has options for that."""
        set_pings(self.server, pings)

    def ping_payload(self) -> bytes:
        """The payload of the next ping, in Autobahn's form."""
        self._pings = (self._pings + 1) & 0xFFFFFFFF
        return struct.pack(">QL", time.time_ns(), self._pings)

    def expect_answer(self, light: Light) -> None:
        """Cut ``light`` unless it sends anything within the server's ``ping_timeout``."""
        timeout = self.server.ping_timeout
        if not timeout or light.pinged:
            return
        light.pinged = True
        loop = asyncio.get_running_loop()
        self._pinged[light] = loop.time() + timeout
        if self._deadline is None:
            self._deadline = loop.call_later(timeout, self._cut_silent)

    def answered(self, light: Light) -> None:
        """``light`` has sent something."""
        light.pinged = False
        self._pinged.pop(light, None)

    def _cut_silent(self) -> None:
        self._deadline = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._pinged:
            light, deadline = next(iter(self._pinged.items()))
            if deadline > now:
                self._deadline = loop.call_at(deadline, self._cut_silent)
                return
            self.answered(light)
            light.transport.abortConnection()

    # --- times, and the end -----------------------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        server, now = self.server, time.time()
        self._look = None
        longest, interval = server.websocket_timeout, server.ping_interval
        for light in tuple(self._lights):
            if now - light.opened_at > longest >= 0:
                light.close(1000, server.ws_factory.closeHandshakeTimeout)
            elif light.state == light.STATE_OPEN and now - light.last_seen > interval:
                light.last_seen = now
                light.ping()
        for light, lost in tuple(self._ending.items()):
            task = light.working
            if task is not None and now - lost > server.application_close_timeout:
                logger.warning(
                    "Application instance %r for connection %r took too long to shut down and was killed.",
                    task,
                    light,
                    extra={"event": "application_killed"},
                )
                task.cancel()
        if self._lights or self._ending:
            self._look = asyncio.get_running_loop().call_later(LOOK, self._look_at_all)

    def lost(self, light: Light) -> None:
        """The transport of ``light`` is gone."""
        self.answered(light)
        self._lights.discard(light)
        self._log("disconnected", light.access)
        if light.working is not None:
            self._ending[light] = time.time()

    def ended(self, light: Light, problem: BaseException | None) -> None:
        """The consumer of ``light`` has ended, by an exception where there is a ``problem``."""
        self._ending.pop(light, None)
        if problem is not None:
            text = "Exception inside application: %s"
            logger.error(text, problem, exc_info=problem, extra={"event": "application_failed"})
            light.close(1011, self.server.ws_factory.closeHandshakeTimeout)

    def end_all(self) -> list[asyncio.Task[None]]:
        """The reactor stops: end all consumers. Returns the tasks that do it."""
        return [task for light in (*self._lights, *self._ending) if (task := light.kill()) is not None]


def usual(factory: Any) -> bool:
    """Whether a factory of Autobahn has the options that daphne gives it, as far as they decide about handshakes and frames."""
    return (
        not factory.headers
        and not factory.externalPort
        and not factory.isSecure
        and not factory.maxConnections
        and not factory.trustXForwardedFor
        and factory.allowedOrigins == ["*"]
        and factory.autoPingInterval == 0
        and factory.requireMaskedClientFrames
        and factory.utf8validateIncoming
        and factory.applyMask
        and not (factory.maskServerFrames or factory.echoCloseCodeReason or factory.autoFragmentSize)
        and not (factory.logFrames or factory.logOctets or factory.trackTimings)
        and 13 in factory.versions
    )


@functools.cache
def _offers(offer: bytes) -> list[Any]:
    """The offers of compression in a header, as Autobahn hands them to the server's choice."""
    from autobahn.websocket.compress import PerMessageDeflateOffer

    parameters: dict[str, list[str | bool]] = {}
    for part in offer.decode("ascii").split(";")[1:]:
        parameters[part.strip()] = [True]
    parse: Any = PerMessageDeflateOffer.parse
    return [parse(parameters)]


def _send_at_once(transport: Any) -> None:
    """Switch Nagle's algorithm off, where there is one."""
    try:
        transport.setTcpNoDelay(True)
    except (AttributeError, OSError):
        return  # A Unix socket.


def _write(transport: Any, data: bytes) -> None:
    """Write onto the socket of a transport whose buffer is empty; what it does not take goes into the buffer."""
    try:
        sent = transport.socket.send(data)
    except (BlockingIOError, InterruptedError):
        sent = 0
    except OSError:
        return  # The client is gone; the reactor reports that.
    if sent < len(data):
        transport.write(data[sent:])
