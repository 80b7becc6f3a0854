"""picows, a WebSocket library in Cython, on uvloop. It passes the frame to each member's transport.

Run it as `python -m bench.peers.picows_server PORT`. It has the same small protocol as `websockets_broadcast`.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

members: defaultdict[bytes, set[WSTransport]] = defaultdict(set)


class Client(WSListener):
    """A member of the channel in its path, or a publisher without one."""

    def __init__(self, channel: bytes | None) -> None:
        super().__init__()
        self.channel = channel

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join the channel."""
        if self.channel is not None:
            members[self.channel].add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send `<channel> <text>` to the channel, or answer a close."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        if frame.msg_type != WSMsgType.TEXT:
            return
        channel, _, text = frame.get_payload_as_bytes().partition(b" ")
        for member in members[channel]:
            member.send(WSMsgType.TEXT, text)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave the channel."""
        if self.channel is not None:
            members[self.channel].discard(transport)


def listener(request: WSUpgradeRequest) -> Client:
    """Return one listener per connection."""
    path = bytes(request.path)
    return Client(path.removeprefix(b"/sub/") if path.startswith(b"/sub/") else None)


async def main(port: int) -> None:
    """Listen on the loopback."""
    server = await ws_create_server(listener, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
