"""An echo as an ASGI application, for Autobahn's test suite: the bus speaks a protocol of its own, an echo speaks none.

Texts come in by the bus's reader and go out by its writer, so that the frames which it takes off the socket and puts onto
it by itself are what is tested; bytes go the ordinary way, since the bus sends none.
"""

from __future__ import annotations

from typing import Any

from bus.realtime.writer import Bounds
from bus.servers.registry import attach_reader, choose_writer


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve one socket."""
    event = await receive()
    if event["type"] != "websocket.connect":
        return
    await send({"type": "websocket.accept"})
    reader = attach_reader(send)
    writer = choose_writer(send, Bounds(bytes=1 << 30, frames=1 << 30), lambda: None)

    def echo(text: bytes) -> None:
        writer.send(text)
        writer.flush()

    if reader is not None:
        reader.begin(writer, echo)
    while (event := await receive())["type"] != "websocket.disconnect":
        text, data = event.get("text"), event.get("bytes")
        if text is not None:
            echo(text.encode())
        elif event.get("arqonbus.text"):
            echo(data)
        else:
            await send({"type": "websocket.send", "bytes": data})
