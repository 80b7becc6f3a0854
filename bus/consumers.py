"""The bus's socket as a Channels consumer."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple
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


class _Arrival(NamedTuple):
    """A connection after the check of its handshake, with the reader of its server if the server has one."""

    connection: Connection
    reader: Reader | None
    refusal: BusError | None


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
        protocols = scope.get("subprotocols") or []
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if SUBPROTOCOL in protocols else None})
        connection, reader, refusal = await self._arrive(scope, scope.get("arqonbus.send", send))
        writer = connection.writer
        code = 1006
        try:
            await _open(connection, reader, refusal)
            # The loop is in this function because that saves one coroutine for each waiting connection.
            while True:
                event = await receive()
                kind = event["type"]
                if kind == "websocket.disconnect":
                    code = event.get("code") or 1005
                    return
                if reader is not None:
                    reader.busy = True
                if writer.closed:
                    # Messages that arrive before the client knows of the close are dropped.
                    if reader is not None:
                        reader.discard_input(flood=connection.client.close_code in (BAD_FRAMES, TOO_MANY))
                elif kind == "arqonbus.frame":
                    await dispatch.finish(connection, event["frame"])
                elif kind == "websocket.receive":
                    text = event.get("text")
                    await dispatch.serve(connection, text.encode() if text is not None else event.get("bytes") or b"")
                # Free the last frame, so that an idle connection does not keep it in memory.
                event = None
                if reader is not None:
                    reader.busy = False
        finally:
            if reader is not None:
                reader.end()
            writer.end()
            await connection.closed(code)

    async def _arrive(self, scope: Any, send: Any) -> _Arrival:
        """Check the handshake, and make the connection. ``send`` is the server's own, without wrappers."""
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
        connection = self.connection_class(
            node, actor, kind=self.kind, peer_address=peer_address(scope), origin=origin_of(scope), query=query
        )
        writer = choose_writer(send, node.bounds, connection.overflow, portable=portable)
        # Set the writer now, since a connection may be cancelled before it is open.
        connection.writer = connection.client.writer = writer
        return _Arrival(connection, reader, refusal)


async def _open(connection: Connection, reader: Reader | None, refusal: BusError | None) -> None:
    """Open the connection, or close it with the reason of its refusal; then let the reader deliver its messages."""
    try:
        if refusal is not None:
            raise Refused.closing(refusal)
        await connection.opened()
    except Closing as closing:
        connection.close(closing.close_code, closing.error)
    if reader is not None:
        attached = reader

        def flooded(reason: str) -> None:
            connection.flooded(reason)
            attached.cut()

        begun = partial(dispatch.begin, connection)
        reader.begin(connection.writer, begun, flooded, connection.registered, lane_of(connection))
