"""An echo as an ASGI application, for Autobahn's test suite: the bus speaks a protocol of its own, an echo speaks none.

Texts go out by the bus's writer, so that the frames which it builds and puts onto the socket itself are what is tested;
bytes go the ordinary way, since the bus sends none.
"""

from __future__ import annotations

from typing import Any

from bus.realtime.inbound import bound
from bus.realtime.writers import Bounds, choose


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve one socket."""
    event = await receive()
    if event["type"] != "websocket.connect":
        return
    await send({"type": "websocket.accept"})
    bound(receive, send)
    writer = choose(send, Bounds(bytes=1 << 30, frames=1 << 30), lambda: None)
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") is not None:
            writer.send(event["text"].encode())
            writer.flush()
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})
