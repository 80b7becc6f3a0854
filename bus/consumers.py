"""The bus's socket as a Channels consumer."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from channels.consumer import AsyncConsumer

from .node import current, settle
from .protocol.errors import BAD_FRAMES, TOO_MANY, BusError, Closing
from .servers.adapter import Pings
from .servers.registry import attach_reader, choose_writer
from .sockets import dispatch
from .sockets.connection import Connection
from .sockets.handshake import Refused, authenticate, origin_of, peer_address

SUBPROTOCOL = "arqonbus.v1"


class BusConsumer(AsyncConsumer):
    """Speaks the contract of docs/protocol.md on one socket.

    It runs its own receive loop: Channels' ``dispatch`` hops to a thread for every event (114-178 µs), and a layer channel
    per socket drops messages above its capacity; here the node's one listener and its hub do that work.
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
        node = current()
        settings = node.runtime.settings
        direct, portable = scope.get("arqonbus.send", send), settings.writer == "portable"
        reader = attach_reader(
            direct,
            portable=portable,
            budget=node.fragments,
            pings=Pings(settings.ping_interval, settings.ping_timeout),
        )
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        try:
            await node.start()
            if reader is not None:
                settle()
            actor, refusal = await authenticate(scope, query, node), None
        except (BusError, Refused) as problem:
            actor, refusal = None, problem
        connection = self.connection_class(
            node, actor, kind=self.kind, peer_address=peer_address(scope), origin=origin_of(scope), query=query
        )
        writer = choose_writer(direct, node.bounds, connection.overflow, portable=portable)
        # Also for one that is cancelled before it is opened.
        connection.writer = connection.client.writer = writer
        code = 1006
        try:
            try:
                if refusal is not None:
                    raise Refused.closing(refusal)
                await connection.opened(writer)
            except Closing as closing:
                connection.close(closing.close_code, closing.error)
            if reader is not None:
                attached = reader

                def flooded(reason: str) -> None:
                    connection.flooded(reason)
                    attached.cut()

                reader.begin(writer, partial(dispatch.begin, connection), flooded, connection.registered)
            while True:
                event = await receive()
                kind = event["type"]
                if kind == "websocket.disconnect":
                    code = event.get("code") or 1005
                    return
                if reader is not None:
                    reader.busy = True
                if writer.closed:
                    # Messages that come before the client knows of the close are dropped.
                    if reader is not None:
                        reader.discard_input(flood=connection.client.close_code in (BAD_FRAMES, TOO_MANY))
                elif kind == "arqonbus.frame":
                    await dispatch.finish(connection, event["frame"])
                elif kind == "websocket.receive":
                    text = event.get("text")
                    await dispatch.serve(connection, text.encode() if text is not None else event.get("bytes") or b"")
                # While the connection is silent nothing of its last frame is kept.
                event = None
                if reader is not None:
                    reader.busy = False
        finally:
            if reader is not None:
                reader.end()
            writer.end()
            await connection.closed(code)
