"""The frames of the telemetry socket, the events of the server, and the activity of clients. Pure: no I/O, no clock.

A client's telemetry frame is part of the bus's one grammar (``bus.protocol.dialects``), since the bus's own socket accepts it
too.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bus.conf.settings import config
from bus.protocol.dialects import read_closely
from bus.protocol.frames import encode
from bus.protocol.inbound import KIND_PUBLISH, Inbound
from bus.protocol.names import SERVER, Address


def stream() -> Address:
    """The channel of telemetry events."""
    return Address(config().system_room, "telemetry-stream")


def dashboard() -> Address:
    """The channel of activity events."""
    return Address(config().system_room, "dashboard-events")


#: The server's own events.
CLIENT_CONNECTED = "client_connected"
CLIENT_DISCONNECTED = "client_disconnected"
CHANNEL_CREATED = "channel_created"
CHANNEL_DELETED = "channel_deleted"
SERVER_STATS = "server_stats"
AGENT_ACTIVITY = "agent_activity"

_SERVER = encode(SERVER)
#: Clients of these types are part of the system: their actions are no activity.
SYSTEM_TYPES = frozenset({"system"})

_TYPES = frozenset({"telemetry", "register"})


def grammar(data: bytes) -> Inbound:
    """The canonical form of a frame on the telemetry socket. Raises ``FrameError`` with every fault of the frame."""
    return read_closely(data, only=_TYPES, default="telemetry")


def connected(client_id: str, *, timestamp: str, receiving: bool, limits: dict[str, Any]) -> bytes:
    """The first frame: the connection's client id, and whether it receives the stream."""
    return encode(
        {
            "version": "1.0",
            "type": "telemetry_connected",
            "from": SERVER,
            "timestamp": timestamp,
            "payload": {
                "event": "telemetry_connected",
                "client_id": client_id,
                "receiving": receiving,
                "stream": str(stream()),
                "limits": limits,
            },
        }
    )


def ack(request_id: str | None, uid: str, event_type: bytes, seq: int | None, *, duplicate: bool) -> bytes:
    """The answer to a telemetry frame, sent once it is durable; ``event_type`` is JSON."""
    frame: dict[str, Any] = {
        "type": "telemetry_ack",
        "request_id": request_id,
        "id": uid,
        "eventType": msgspec.Raw(event_type),
        "status": "accepted",
        "room": stream().room,
        "channel": stream().channel,
        "seq": seq,
    }
    if duplicate:
        frame["duplicate"] = True
    return encode(frame)


def event(event_type: str, payload: dict[str, Any]) -> Inbound:
    """An event of the server, ready to be published."""
    return Inbound(
        kind=KIND_PUBLISH,
        type="telemetry",
        payload=encode(payload),
        event_type=encode(event_type),
        source=_SERVER,
    )


def activity(card: dict[str, Any], name: str, room: str, channel: str, timestamp: str) -> Inbound:
    """An activity event: that a client did something, never what it said. ``card`` is the public part of the client."""
    payload = {
        "eventType": AGENT_ACTIVITY,
        "client_id": card["client_id"],
        "client_type": card["client_type"],
        "screen_name": card["screen_name"],
        "activity": name,
        "room": room,
        "channel": channel,
        "timestamp": timestamp,
    }
    return Inbound(kind=KIND_PUBLISH, type="event", payload=encode(payload), event_type=encode(AGENT_ACTIVITY))
