"""The telemetry socket in the AsyncAPI document, and the telemetry frames on the bus socket."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from bus.contracts import Message, Socket, register
from bus.contracts.asyncapi import BUS
from bus.contracts.frames import Error, FrameId, Notice, Register
from bus.shapes import Message as Delivered
from bus.shapes import Object, Seq, WireTime

Name = Annotated[str, Meta(min_length=1, max_length=128)]


class Telemetry(msgspec.Struct, kw_only=True):
    """A telemetry event. It is published to the channel telemetry-stream of the room integriguard."""

    type: Literal["telemetry"] | UnsetType = UNSET
    version: Literal["1.0"] | UnsetType = UNSET
    id: FrameId | UnsetType = UNSET
    event_type: Name = field(name="eventType")
    payload: Object
    timestamp: Annotated[str, Meta(description="The sender's own time in ISO 8601.")] | UnsetType = UNSET
    source: Annotated[Name, Meta(description="Source of the event, in the words of the sender.")] | UnsetType = UNSET
    metadata: Object | UnsetType = UNSET


class TelemetryConnected(msgspec.Struct, kw_only=True):
    """The first frame: the id of the connection, and whether it receives the stream."""

    version: Literal["1.0"]
    type: Literal["telemetry_connected"]
    from_: str = field(name="from")
    timestamp: WireTime
    payload: Annotated[Object, Meta(description="event, client_id, receiving, stream, limits")]


class TelemetryAck(msgspec.Struct, kw_only=True):
    """The acknowledgement that a telemetry event is durable."""

    type: Literal["telemetry_ack"]
    request_id: str | None
    id: Annotated[str, Meta(description="The id of the delivered event.")]
    event_type: Any = field(name="eventType")
    status: Literal["accepted"]
    room: str
    channel: str
    seq: Seq
    duplicate: bool | UnsetType = UNSET


_EXAMPLE = {"eventType": "cpu_load", "payload": {"load": 0.25}, "source": "probe-1"}
_TELEMETRY = Message("telemetry", Telemetry, (_EXAMPLE,))
_ACK = Message(
    "telemetryAck",
    TelemetryAck,
    (
        {
            "type": "telemetry_ack",
            "request_id": None,
            "id": "arq_7f3b",
            "eventType": "cpu_load",
            "status": "accepted",
            "room": "integriguard",
            "channel": "telemetry-stream",
            "seq": 7,
        },
    ),
)

SOCKET = Socket(
    name="telemetry",
    path="/telemetry/",
    title="Telemetry",
    description=(
        "Accepts telemetry events and sends the stream of all events. The socket is also at / of the telemetry port. "
        "Clients that may join integriguard:telemetry-stream receive the stream. See docs/protocol.md."
    ),
    takes=(_TELEMETRY, Message("register", Register)),
    sends=(
        Message("telemetryConnected", TelemetryConnected),
        _ACK,
        Message("message", Delivered),
        Message("notice", Notice),
        Message("error", Error),
    ),
    replies={"telemetry": ("telemetryAck", "error"), "register": ("notice", "error")},
)


def describe() -> None:
    """Add both to the AsyncAPI document. The app calls this when it is ready."""
    register(SOCKET)
    register(
        replace(
            BUS,
            takes=(*BUS.takes, _TELEMETRY),
            sends=(*BUS.sends, _ACK),
            replies={**BUS.replies, "telemetry": ("telemetryAck", "error")},
        )
    )
