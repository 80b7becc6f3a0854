"""The shapes of the bus's frames, for the contract: fields, types, meaning. What validates is ``bus.protocol.dialects``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from ..protocol.names import CLIENT_ID_RULE, NAME_RULE
from ..version import PROTOCOL

RoomText = Annotated[str, Meta(description=f"Room, or room:channel. A name has {NAME_RULE}", max_length=129)]
ChannelText = Annotated[str, Meta(description=f"Channel, or room:channel. A name has {NAME_RULE}", max_length=129)]
ClientId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.@-]{1,64}$", description=f"A client_id: {CLIENT_ID_RULE}")]
FrameId = Annotated[str, Meta(min_length=1, max_length=128, description="The sender's id of the frame.")]
WireTime = Annotated[
    str, Meta(description="ISO 8601, UTC, milliseconds and Z.", extra_json_schema={"format": "date-time"})
]
Seq = Annotated[int, Meta(ge=0, description="Place in the channel's log: 1, 2, 3 … without a hole.")]
Epoch = Annotated[str, Meta(description="Names the log; it changes only if the log was lost or made anew.")]
Object = dict[str, Any]


# --- what clients send ---------------------------------------------------------------------------------------------------


class Position(msgspec.Struct):
    """A place in a log."""

    seq: Seq
    epoch: str | None = None


class Resume(msgspec.Struct):
    """What a client that comes back brings."""

    token: Annotated[str | None, Meta(description="The `resume_token` of its last registration.")] = None
    positions: Annotated[
        dict[str, Position], Meta(description="How far it came, by address, for example science:explore.")
    ] = {}


class Register(msgspec.Struct):
    """The identity that a client asks for, its initial channel, and where it goes on. ``type`` may be left out."""

    type: Literal["register"] | UnsetType = UNSET
    client_id: ClientId | None = None
    client_type: Annotated[
        str, Meta(max_length=64, description="human, dashboard, ai-agent, service, app, or a word of your own.")
    ] = "app"
    room: RoomText | None = None
    channel: ChannelText | None = None
    screen_name: Annotated[str, Meta(max_length=128)] | None = None
    avatar: Annotated[str, Meta(max_length=2048)] | None = None
    personality: Object | None = None
    token: Annotated[str | None, Meta(description="Access token, where no header can be sent.")] = None
    since: Annotated[int | str | None, Meta(description="Begin after this seq or ISO time in the initial channel.")] = (
        None
    )
    epoch: Annotated[str | None, Meta(description="The epoch that `since` belongs to.")] = None
    resume: Resume | None = None


class _Content(msgspec.Struct, kw_only=True):
    version: Annotated[
        Literal["1.0"] | None,
        Meta(description=f'"{PROTOCOL}" for the v1 dialect: then `id` is there and begins with arq_.'),
    ] = None
    id: Annotated[
        FrameId | int | None, Meta(description="A repeat of the same sender within the window is published once.")
    ] = None
    room: RoomText | None = None
    channel: ChannelText | None = None
    message: Annotated[Any, Meta(description="The text. In v1 it may stand in the payload.")] = None
    payload: Annotated[Object | None, Meta(description="Any JSON object; its bytes are passed on as they came.")] = None
    metadata: Object | None = None
    timestamp: Annotated[str | None, Meta(description="The sender's own time; passed on as client_timestamp.")] = None
    ack: Annotated[bool | None, Meta(description="Answer when the message is durable.")] = None
    echo: Annotated[bool | None, Meta(description="Deliver it to the sender too.")] = None


class Event(_Content, kw_only=True):
    """A message for a channel, a whole room (``room`` alone), or everybody (``room: "*"``, admins)."""

    type: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        Meta(description="Free; without `version`, any word that is not another frame's type."),
    ] = "event"


class Private(_Content, kw_only=True):
    """A message into the inbox of each target."""

    type: Literal["private"]
    to: Annotated[ClientId | list[ClientId], Meta(description="One client_id or several.")]


class System(_Content, kw_only=True):
    """A system message; admins only."""

    type: Literal["system"]


# --- what the server sends -----------------------------------------------------------------------------------------------


class Message(msgspec.Struct, kw_only=True):
    """A delivered message: event, private, system, telemetry, or a type of your own."""

    version: Literal["1.0"]
    id: Annotated[str, Meta(pattern="^arq_")]
    type: str
    room: str
    channel: Annotated[str, Meta(description="The channel; * for a message to the whole room.")]
    from_: Annotated[str, Meta(description="The sender's true client_id.")] = field(name="from")
    timestamp: WireTime
    seq: Seq | UnsetType = UNSET
    payload: Object
    message: Any | UnsetType = UNSET
    metadata: Object | UnsetType = UNSET
    client_timestamp: str | UnsetType = UNSET
    event_type: Any | UnsetType = field(name="eventType", default=UNSET)
    source: Any | UnsetType = UNSET
    unreadable: (
        Annotated[
            Literal[True],
            Meta(description="An older version kept it in a form that cannot be read; `payload` is empty."),
        ]
        | UnsetType
    ) = UNSET


class Ack(msgspec.Struct, kw_only=True):
    """The message is durable."""

    type: Literal["ack"]
    request_id: str | None
    seq: Annotated[Seq | None, Meta(description="Its place; null on ephemeral channels, and where `targets` say it.")]
    room: str
    channel: str
    targets: (
        Annotated[dict[str, Seq | None], Meta(description="Of a private message to several: its place in each inbox.")]
        | UnsetType
    ) = UNSET
    duplicate: (
        Annotated[bool, Meta(description="This id had been published before; `seq` is the first one's.")] | UnsetType
    ) = UNSET
    unproven: (
        Annotated[
            list[str],
            Meta(
                description="Of a private message: targets that are away, and get it only if they bring their resume token."
            ),
        ]
        | UnsetType
    ) = UNSET


class Fault(msgspec.Struct, kw_only=True):
    """An error: one row of the table ``x-errors``, with what is known of this case."""

    code: str
    number: Annotated[int, Meta(description="As HTTP statuses.")]
    message: str
    details: Annotated[list[Any], Meta(description="Every fault, not just the first.")]
    retry_after: Annotated[float, Meta(description="Seconds.")] | UnsetType = UNSET


class Error(msgspec.Struct, kw_only=True):
    """A frame was refused, or the connection is about to be closed."""

    type: Literal["error"]
    request_id: Annotated[str | None, Meta(description="The id of the refused frame, if it had one.")]
    error: Fault


class CommandError(msgspec.Struct, kw_only=True):
    """The one answer of a command that was refused. v0 clients read the top level, v1 clients ``payload``."""

    version: Literal["1.0"]
    type: Literal["command_response"]
    id: str
    request_id: str | None
    from_: Literal["arqonbus_server"] = field(name="from")
    command: str
    status: Literal["error"]
    message: str
    error: Fault
    payload: Object


class Limits(msgspec.Struct, kw_only=True):
    """What the server takes of one connection."""

    frame_bytes: int
    depth: Annotated[int, Meta(description="Levels of nesting of a frame's JSON.")]
    targets: int
    frames_per_second: Annotated[float, Meta(description="0: no limit.")]


class Welcome(msgspec.Struct, kw_only=True, tag_field="event", tag="welcome"):
    """The first frame of a connection."""

    client_id: str
    protocol: str
    server_version: str
    limits: Limits
    registered: bool


class LogState(msgspec.Struct, kw_only=True):
    """Where a log stands for this client."""

    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The head.")]
    recovered: (
        Annotated[bool, Meta(description="Whether everything after the position that was asked for follows.")]
        | UnsetType
    ) = UNSET
    first_seq: Annotated[Seq, Meta(description="Not recovered: the first message that is left.")] | UnsetType = UNSET
    withheld: (
        Annotated[bool, Meta(description="Of the inbox: letters lie in it for whoever had this id and can prove it.")]
        | UnsetType
    ) = UNSET


class Registered(msgspec.Struct, kw_only=True, tag_field="event", tag="registered"):
    """The answer to a registration; what was missed follows."""

    client_id: str
    client_type: str
    role: str
    room: str
    channel: str
    channels: Annotated[dict[str, LogState], Meta(description="Every log that reaches this client, by address.")]
    resume_token: str
    participants: int


class _Card(msgspec.Struct, kw_only=True):
    client_id: str
    client_type: str
    screen_name: str | None
    avatar: str | None


class ClientJoined(_Card, kw_only=True, tag_field="event", tag="client_joined"):
    """Somebody became a member."""

    participants: int


class ClientLeft(_Card, kw_only=True, tag_field="event", tag="client_left"):
    """Somebody is no longer a member."""

    participants: int


class Presence(msgspec.Struct, kw_only=True, tag_field="event", tag="presence"):
    """The joins and leaves of a moment, gathered, in a channel with many members."""

    joined: list[Object]
    joined_count: int
    left: list[Object]
    left_count: int
    participants: int


class Unsubscribed(msgspec.Struct, kw_only=True, tag_field="event", tag="unsubscribed"):
    """Your access to a channel was withdrawn (REVOKED) or it was deleted (DELETED); you are no member any more."""

    room: str
    channel: str
    reason: str


class Notice(msgspec.Struct, kw_only=True):
    """A system frame of the server; ``payload.event`` says what happened."""

    version: Literal["1.0"]
    type: Literal["system"]
    from_: Literal["arqonbus_server"] = field(name="from")
    room: str | UnsetType = UNSET
    channel: str | UnsetType = UNSET
    payload: Welcome | Registered | ClientJoined | ClientLeft | Presence | Unsubscribed
