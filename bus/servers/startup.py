"""The node starts with the server, not with the first client."""

from __future__ import annotations

import contextlib
from typing import Any

from ..node import current
from ..protocol.errors import BusError


async def start_node() -> None:
    """Start the loop's node. When the database is away, the log says so, and each connection tries again."""
    with contextlib.suppress(BusError):
        await current().start()


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI lifespan of a process: start the node. The drain ends it (``bus.node.upkeep.drain``)."""
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await start_node()
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return
