"""A server of an older version, as a client meets it: what it sends is not always JSON for everybody.

It is the real server with something in front of it that spoils some frames on their way out, just as older versions did.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

#: The sender's own time as it was sent, and as an older version wrote it into the frame.
TIME, SPOILT_TIME = '"2026-01-01T00:00:00"', '"2026-01-01"00:00:00"'
#: A number that stands for one that Python refuses to read.
NUMBER, SPOILT_NUMBER = '"n":170717', f'"n":{"9" * 5000}'


def _first(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


def spoilt(text: str) -> str:
    """A frame as an older version would have sent it."""
    return text.replace(TIME, SPOILT_TIME).replace(NUMBER, SPOILT_NUMBER)


@asynccontextmanager
async def older(url: str) -> AsyncIterator[str]:
    """The URL of an older version of the server at ``url``."""

    async def relay(client: ServerConnection) -> None:
        async with connect(url, proxy=None, max_size=None, compression=None) as server:

            async def out() -> None:
                async for frame in server:
                    await client.send(spoilt(str(frame)))

            sending = asyncio.create_task(out())
            try:
                async for frame in client:
                    await server.send(frame)
            except ConnectionClosed:
                pass
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async with serve(relay, "127.0.0.1", 0, max_size=None, compression=None, select_subprotocol=_first) as made:
        port = next(iter(made.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/"
