"""The bus's socket as a Channels consumer."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from channels.consumer import AsyncConsumer

from .auth.permissions import Actor
from .node import current, freeze_loaded
from .protocol.errors import BAD_FRAMES, TOO_MANY, BusError, Closing
from .realtime.reader import Reader
from .servers.adapter import Pings
from .servers.registry import attach_reader, choose_writer
from .sockets import dispatch
from .sockets.connection import Connection
from .sockets.handshake import Refused, authenticate
from .sockets.lane import lane_of
from .sockets.origin import origin_of, peer_address

SUBPROTOCOL = "arqonbus.v1"


class Served:
    """One socket after the check of its handshake: it is opened, handed one event after another, and ended.

    The ASGI application below does this under any server. A server's adapter that serves sockets without ASGI does the same
    (:class:`bus.servers.adapter.PlainConsumer`).
    """

    __slots__ = ("connection", "reader", "refusal")

    def __init__(self, connection: Connection, reader: Reader | None, refusal: BusError | None) -> None:
        self.connection = connection
        #: The reader of the socket's server, if the server has one.
        self.reader = reader
        #: Why the handshake is refused.
        self.refusal = refusal

    async def open(self) -> None:
        """Open the connection, or close it with the reason of its refusal; then let the reader deliver its messages."""
        connection, reader = self.connection, self.reader
        try:
            if self.refusal is not None:
                raise Refused.closing(self.refusal)
            await connection.opened()
        except Closing as closing:
            connection.close(closing.close_code, closing.error)
        if reader is not None:
            begun = partial(dispatch.begin, connection)
            reader.begin(connection.writer, begun, self._flooded, connection.registered, lane_of(connection))

    def _flooded(self, reason: str) -> None:
        self.connection.flooded(reason)
        if self.reader is not None:
            self.reader.cut()

    async def handle(self, event: Any) -> None:
        """Serve one event of the socket to its end: a message, or the rest of one that the reader began to serve."""
        connection, reader = self.connection, self.reader
        if reader is not None:
            reader.busy = True
        if connection.writer.closed:
            # Messages that arrive before the client knows of the close are dropped.
            if reader is not None:
                reader.discard_input(flood=connection.client.close_code in (BAD_FRAMES, TOO_MANY))
        elif event["type"] == "arqonbus.frame":
            await dispatch.finish(connection, event["frame"])
        elif event["type"] == "websocket.receive":
            text = event.get("text")
            await dispatch.serve(connection, text.encode() if text is not None else event.get("bytes") or b"")
        if reader is not None:
            reader.busy = False

    async def end(self, code: int) -> None:
        """Clean up after the end of the socket; ``code`` is the client's close code."""
        if self.reader is not None:
            self.reader.end()
        self.connection.writer.end()
        await self.connection.closed(code)


class BusConsumer(AsyncConsumer):
    """Speaks the protocol of docs/protocol.md on one socket.

    The consumer has a receive loop of its own. Channels' ``dispatch`` hops to a thread for every event (114-178 µs), and a
    layer channel for each socket drops messages above its capacity. The node's one listener and its hub do that work instead.
    """

    kind = "bus"
    connection_class: type[Connection] = Connection

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one socket from its handshake to its end (the ASGI application of the connection)."""
        event = await receive()
        if event["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept", "subprotocol": self.subprotocol(scope)})
        served = await self.arrive(scope, scope.get("arqonbus.send", send))
        code = 1006
        try:
            await served.open()
            # The loop is in this function because that saves one coroutine for each waiting connection.
            while True:
                event = await receive()
                if event["type"] == "websocket.disconnect":
                    code = event.get("code") or 1005
                    return
                await served.handle(event)
                # Free the last frame, so that an idle connection does not keep it in memory.
                event = None
        finally:
            await served.end(code)

    @staticmethod
    def subprotocol(scope: Any) -> str | None:
        """The sub-protocol that the answer to a handshake names."""
        return SUBPROTOCOL if SUBPROTOCOL in (scope.get("subprotocols") or ()) else None

    async def arrive(self, scope: Any, send: Any) -> Served:
        """Check an accepted handshake, and make its connection. ``send`` is the server's own, without wrappers."""
        node = current()
        settings = node.runtime.settings
        portable = settings.writer == "portable"
        reader = attach_reader(
            send,
            portable=portable,
            budget=node.fragments,
            pings=Pings(settings.ping_interval, settings.ping_timeout),
        )
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        actor: Actor | None = None
        refusal: BusError | None = None
        try:
            await node.start()
            if reader is not None:
                freeze_loaded()
            actor = await authenticate(scope, query, node)
        except BusError as problem:
            refusal = problem
        except BaseException:
            # Nobody else ends the reader, which may hold a part of the budget.
            if reader is not None:
                reader.end()
            raise
        connection = self.connection_class(
            node, actor, kind=self.kind, peer_address=peer_address(scope), origin=origin_of(scope), query=query
        )
        writer = choose_writer(send, node.bounds, connection.overflow, portable=portable)
        # Set the writer now, since a connection may be cancelled before it is open.
        connection.writer = connection.client.writer = writer
        return Served(connection, reader, refusal)
