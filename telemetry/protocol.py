"""The protocol of the telemetry socket. Pure: no I/O, no clock.

The form of a telemetry frame itself is part of the bus's one grammar (``bus.protocol.dialects``), since the bus's own socket
takes it too; here are the frames of the telemetry socket, the server's own events and the notes of what clients do.
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
    """Where telemetry goes."""
    return Address(config().system_room, "telemetry-stream")


def dashboard() -> Address:
    """Where the notes of what clients do go."""
    return Address(config().system_room, "dashboard-events")


#: The server's own events.
CLIENT_CONNECTED = "client_connected"
CLIENT_DISCONNECTED = "client_disconnected"
CHANNEL_CREATED = "channel_created"
CHANNEL_DELETED = "channel_deleted"
SERVER_STATS = "server_stats"
AGENT_ACTIVITY = "agent_activity"

#: Clients of these types are part of the machinery: what they do is no activity.
SYSTEM_TYPES = frozenset({"system"})

_TYPES = frozenset({"telemetry", "register"})


def grammar(data: bytes) -> Inbound:
    """The canonical form of a frame on the telemetry socket. Raises ``FrameError`` with every fault of it."""
    return read_closely(data, only=_TYPES, default="telemetry")


def connected(client_id: str, *, timestamp: str, receiving: bool, limits: dict[str, Any]) -> bytes:
    """The first frame: who the connection is, and whether it will receive the stream."""
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
    """One of the server's own events, ready to be published."""
    return Inbound(
        kind=KIND_PUBLISH,
        type="telemetry",
        payload=encode(payload),
        event_type=encode(event_type),
        source=encode(SERVER),
    )


def activity(card: dict[str, Any], name: str, room: str, channel: str, timestamp: str) -> Inbound:
    """A note of what a client did, never of what it said. ``card`` is what others may know of the client."""
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
