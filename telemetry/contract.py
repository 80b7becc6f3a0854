"""The telemetry socket in the AsyncAPI document, and what telemetry adds to the bus's own socket."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from bus.contracts import Message, Socket, register
from bus.contracts.asyncapi import BUS
from bus.contracts.frames import Error, FrameId, Notice, Object, Register, Seq, WireTime
from bus.contracts.frames import Message as Delivered

Name = Annotated[str, Meta(min_length=1, max_length=128)]


class Telemetry(msgspec.Struct, kw_only=True):
    """A telemetry event. It is published to the channel telemetry-stream of the bus's own room (integriguard)."""

    type: Literal["telemetry"] | UnsetType = UNSET
    version: Literal["1.0"] | UnsetType = UNSET
    id: FrameId | UnsetType = UNSET
    event_type: Name = field(name="eventType")
    payload: Object
    timestamp: Annotated[str, Meta(description="The sender's own time, ISO 8601.")] | UnsetType = UNSET
    source: Annotated[Name, Meta(description="What it tells of, as the sender names it.")] | UnsetType = UNSET
    metadata: Object | UnsetType = UNSET


class TelemetryConnected(msgspec.Struct, kw_only=True):
    """The first frame: the connection's id, and whether it receives the stream."""

    version: Literal["1.0"]
    type: Literal["telemetry_connected"]
    from_: str = field(name="from")
    timestamp: WireTime
    payload: Annotated[Object, Meta(description="event, client_id, receiving, stream, limits")]


class TelemetryAck(msgspec.Struct, kw_only=True):
    """The event is durable and on its way to whoever receives the stream."""

    type: Literal["telemetry_ack"]
    request_id: str | None
    id: Annotated[str, Meta(description="The id under which it is delivered.")]
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
        "Events in, and the stream of all events out; also at / of the telemetry port. "
        "Who may join integriguard:telemetry-stream receives the stream. See docs/protocol.md."
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
    """Add both to the contract; called when the app is ready."""
    register(SOCKET)
    register(
        replace(
            BUS,
            takes=(*BUS.takes, _TELEMETRY),
            sends=(*BUS.sends, _ACK),
            replies={**BUS.replies, "telemetry": ("telemetryAck", "error")},
        )
    )
