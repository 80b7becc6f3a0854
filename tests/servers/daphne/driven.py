"""Daphne's server driven by hand: real protocols of Twisted, daphne and Autobahn on a pair of sockets, without a reactor.

What a client sees and what the consumer gets is noted after each segment of bytes, so that two ways can be compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from daphne.http_protocol import HTTPFactory
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory
from twisted.internet.address import IPv4Address
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from bus.consumers import BusConsumer
from bus.realtime.reader import Reader
from bus.realtime.writer import Bounds, Writer
from bus.servers.adapter import Pings
from bus.servers.daphne import handshakes
from bus.servers.daphne.light.connection import Light
from bus.servers.registry import attach_reader, choose_writer
from tests.servers.streams import content

_FAILURE: Any = Failure
#: Turns of the loop in which everything that a segment causes has happened.
TURNS = 12


class Call:
    """A call that Twisted wants later."""

    def cancel(self) -> None:
        """It is over."""

    def active(self) -> bool:
        """Whether it is still to come."""
        return False


class Reactor:
    """What a transport asks of its reactor: whether it reads is noted, and what is due at once happens with the next turn."""

    def __init__(self) -> None:
        self.reads = False
        self.due: list[Callable[[], Any]] = []

    def addReader(self, _: Any) -> None:  # noqa: N802 - Twisted's names
        """Read."""
        self.reads = True

    def removeReader(self, _: Any) -> None:  # noqa: N802
        """Read no more."""
        self.reads = False

    def addWriter(self, _: Any) -> None: ...  # noqa: N802
    def removeWriter(self, _: Any) -> None: ...  # noqa: N802

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any) -> Call:  # noqa: N802
        """Call at once, or never."""
        if not delay:
            self.due.append(lambda: function(*args))
        return Call()


class Recording(BusConsumer):
    """The bus's consumer where it stands between a server and the bus: what it gets is noted."""

    def __init__(self, notes: list[Any]) -> None:
        self.notes = notes

    async def arrive(self, scope: Any, send: Any) -> Any:
        """Note the scope, and take reader and writer as the bus does."""
        self.notes.append({name: value for name, value in scope.items() if name != "asgi"})
        reader = attach_reader(send, budget=None, pings=Pings(20, 30))
        assert reader is not None
        recorder = Recorder(self.notes, reader)
        recorder.writer = choose_writer(send, Bounds(), lambda: None)
        return recorder


class Recorder:
    """Serves one socket: a text that begins with a digit is answered, `later` is served in a task, `close` closes."""

    writer: Writer

    def __init__(self, notes: list[Any], reader: Reader) -> None:
        self.notes = notes
        self.reader = reader

    async def open(self) -> None:
        """Begin."""
        self.writer.send(b"welcome")
        self.writer.flush()
        self.reader.begin(self.writer, self._begin, self._flooded, lambda: True)

    def _begin(self, data: bytes) -> Any:
        if data.startswith((b"later", b"close", b"fail", b"hang")):
            return data
        self.notes.append(data)
        if data[:1].isdigit():
            self.writer.send(data)
            self.writer.flush()
        return None

    def _flooded(self, reason: str) -> None:
        self.notes.append(reason)
        self.writer.close(4429)
        self.reader.cut()

    async def handle(self, event: dict[str, Any]) -> None:
        """As :class:`bus.consumers.Served` does."""
        self.reader.busy = True
        if self.writer.closed:
            self.reader.discard_input(flood=False)
        else:
            data = event["frame"] if event["type"] == "arqonbus.frame" else self._begin(content(event))
            if data is not None:
                await asyncio.sleep(0)
                self.notes.append(("waited", data))
                if data.startswith(b"close"):
                    self.writer.close(4008)
                if data.startswith(b"fail"):
                    raise ValueError("as told")
                if data.startswith(b"hang"):
                    await asyncio.Event().wait()
        self.reader.busy = False

    async def end(self, code: int) -> None:
        """Note the end."""
        self.reader.end()
        self.writer.end()
        self.notes.append(("end", code))


class Application:
    """An application that a server may serve in both ways, or by ASGI alone."""

    def __init__(self, notes: list[Any], *, plain: bool) -> None:
        self.consumer = Recording(notes)
        self._is_plain = plain

    def plain(self, scope: Any) -> Recording | None:
        """The consumer, where it may be served without ASGI."""
        return self.consumer if self._is_plain and scope["path"] in ("/", "/ws/") else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket" and scope["path"] in ("/", "/ws/"):
            await self.consumer(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"none"})


class Driven:
    """One server, and one connection to it at a time."""

    def __init__(self, *, plain: bool, **options: Any) -> None:
        handshakes.install()
        self.notes: list[Any] = []
        self.server: Any = Server(
            Application(self.notes, plain=plain),
            endpoints=["none"],
            action_logger=self._said,
            **options,
        )
        # What `Server.run` does before it listens.
        self.server.connections = {}
        self.server.http_factory = HTTPFactory(self.server)
        self.server.http_factory.timeOut = 60
        self.server.ws_factory = WebSocketFactory(self.server, server=self.server.server_name)
        self.server.ws_factory.setProtocolOptions(
            autoPingTimeout=self.server.ping_timeout,
            allowNullOrigin=True,
            openHandshakeTimeout=self.server.websocket_handshake_timeout,
            maxMessagePayloadSize=self.server.websocket_max_message_size,
            maxFramePayloadSize=self.server.websocket_max_frame_size,
        )

    def _said(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """Note a line of the access log; how long an answer took is chance."""
        self.notes.append((protocol, action, {name: value for name, value in details.items() if name != "time_taken"}))

    def connect(self) -> None:
        """Accept a connection."""
        ours, self.theirs = socket.socketpair()
        for end in (ours, self.theirs):
            end.setblocking(False)
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        address = IPv4Address("TCP", "127.0.0.1", 50_000)
        protocol = self.server.http_factory.buildProtocol(address)
        self.reactor = Reactor()
        transport: Any = Connection(ours, protocol, self.reactor)  # type: ignore[arg-type]
        self.transport = transport
        transport.connected = 1
        transport.getPeer = lambda: address
        transport.getHost = lambda: IPv4Address("TCP", "127.0.0.1", 8000)
        transport.setTcpNoDelay = lambda _: None
        self.reactor.reads = True
        protocol.makeConnection(transport)
        self.waiting = b""

    @property
    def is_light(self) -> bool:
        """Whether the connection is a light one."""
        return isinstance(getattr(self.transport, "protocol", None), Light)

    async def feed(self, data: bytes) -> tuple[list[Any], bytes, bool]:
        """Send a segment, and let all of its effects happen.

        Returns the notes, what the client got, and whether its connection is open.
        """
        self.waiting += data
        got = b""
        for _ in range(TURNS):
            if self.waiting and self.reactor.reads and self.transport.connected:
                segment, self.waiting = self.waiting[:65_536], self.waiting[65_536:]
                self._read(segment)
            await asyncio.sleep(0)
            # Daphne looks for failed applications once a second.
            self.server.application_checker()
            got += self._turn()
        notes, self.notes[:] = list(self.notes), []
        return notes, got, bool(self.transport.connected)

    def _read(self, segment: bytes) -> None:
        """As the reactor does: a protocol that fails loses its connection."""
        try:
            self.transport._dataReceived(segment)
        except Exception as problem:  # noqa: BLE001 - of daphne or of what is tested
            self._lose(problem)

    def _lose(self, why: Exception) -> None:
        try:
            self.transport.connectionLost(_FAILURE(why))
        except Exception as problem:  # noqa: BLE001 - the reactor logs it
            self.notes.append(type(problem))

    def _turn(self) -> bytes:
        got, transport = b"", self.transport
        if transport.connected and (
            transport.dataBuffer or transport._tempDataBuffer or (transport.disconnecting and not transport._aborting)
        ):
            why = transport.doWrite()
            if why:
                self._lose(why)
        due, self.reactor.due = self.reactor.due, []
        for call in due:
            call()
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while chunk := self.theirs.recv(65_536):
                got += chunk
        return got

    async def leave(self, *, wait: bool = True) -> tuple[list[Any], bytes, bool]:
        """Cut the line from the client's side. A consumer that still works is ended, unless the test does that itself."""
        from twisted.internet.error import ConnectionLost

        if self.transport.connected:
            self._lose(ConnectionLost())
        seen = await self.feed(b"")
        working = [details.get("application_instance") for details in self.server.connections.values()]
        if (light := self.server.http_factory.__dict__.get("arqonbus_light")) is not None:
            working += [each.working for each in light._ending]
        for task in working if wait else ():
            if task is not None:
                task.cancel()
                await asyncio.wait({task}, timeout=10)
        self.server.connections.clear()
        if wait:
            self.theirs.close()
        return seen
