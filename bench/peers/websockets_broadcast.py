"""`websockets.broadcast`, the library's documented way to reach many connections.

Run it as `python -m bench.peers.websockets_broadcast PORT`. A client of /sub/<channel> is a member. The frame of any other
client is `<channel> <text>`, and the text goes to the channel's members.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, broadcast, serve

members: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def handle(connection: ServerConnection) -> None:
    """Serve one connection until it closes."""
    path = connection.request.path if connection.request else ""
    if path.startswith("/sub/"):
        group = members[path.removeprefix("/sub/")]
        group.add(connection)
        try:
            await connection.wait_closed()
        finally:
            group.discard(connection)
        return
    async for frame in connection:
        channel, _, text = str(frame).partition(" ")
        broadcast(members[channel], text)


async def main(port: int) -> None:
    """Listen on the loopback, without compression, as for every contender."""
    async with serve(handle, "127.0.0.1", port, compression=None, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
