"""The shapes of answers. Services build them, sockets and REST send them, AsyncAPI and OpenAPI describe them.

Each shape is defined once, here. A field's ``Meta`` is its documentation in both documents.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

WireTime = Annotated[
    str, Meta(description="Time in ISO 8601, UTC, with milliseconds and Z.", extra_json_schema={"format": "date-time"})
]
Seq = Annotated[int, Meta(ge=0, description="Position in the channel's log: 1, 2, 3 … without gaps.")]
Epoch = Annotated[str, Meta(description="Identifier of the log. It changes only if the log was lost or recreated.")]
Object = dict[str, Any]

Row = TypeVar("Row")


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every answer."""


class Page(Shape, Generic[Row], frozen=True, kw_only=True):
    """A page of a list."""

    results: list[Row]
    next: Annotated[
        Annotated[str, Meta(extra_json_schema={"format": "uri"})] | None,
        Meta(description="Address of the next page; null on the last page."),
    ]


# --- messages ---------------------------------------------------------------------------------------------------------


class Message(Shape, frozen=True, kw_only=True):
    """A delivered message: event, private, system, telemetry, or a type of the sender's own."""

    version: Literal["1.0"]
    id: Annotated[str, Meta(pattern="^arq_")]
    type: str
    room: str
    channel: Annotated[str, Meta(description="The channel; * for a message to the whole room.")]
    from_: Annotated[str, Meta(description="The real client_id of the sender.")] = field(name="from")
    timestamp: WireTime
    seq: Seq | UnsetType = UNSET
    payload: Object
    message: Any | UnsetType = UNSET
    metadata: Object | UnsetType = UNSET
    stream: (
        Annotated[Object, Meta(description="In an opening: the `mode`. In an end: `mode`, `state` and `parts`.")]
        | UnsetType
    ) = UNSET
    steer: Annotated[str, Meta(description="Id of the streamed message that it steers.")] | UnsetType = UNSET
    of: Annotated[str, Meta(description="In a `stream_end`: id of the opening message.")] | UnsetType = UNSET
    of_seq: Annotated[int, Meta(description="In a `stream_end`: seq of the opening message.")] | UnsetType = UNSET
    untaken: (
        Annotated[list[str], Meta(description="In a `stream_end`: ids of steers that the owner did not take.")]
        | UnsetType
    ) = UNSET
    parts: Annotated[list[Any], Meta(description="In a `stream_end` of mode `parts`: all parts.")] | UnsetType = UNSET
    client_timestamp: str | UnsetType = UNSET
    event_type: Any | UnsetType = field(name="eventType", default=UNSET)
    source: Any | UnsetType = UNSET
    unreadable: (
        Annotated[
            Literal[True],
            Meta(description="An older version stored the message in an unreadable form. `payload` is empty."),
        ]
        | UnsetType
    ) = UNSET


class StreamPlace(Shape, frozen=True, kw_only=True):
    """A streamed message, as its owner needs it to go on."""

    of: Annotated[str, Meta(description="Id of the opening message, which names the stream.")]
    have: Annotated[int, Meta(ge=0, description="Number of the newest part that the bus keeps; 0: none.")]
    state: Annotated[str, Meta(pattern="^(open|complete|aborted|stopped)$")]
    attempt: Annotated[int, Meta(ge=1, description="It grows with each adoption.")]
    stopping: Annotated[bool, Meta(description="Somebody asked the owner to stop.")]
    steers: (
        Annotated[list[Message], Meta(description="The messages that steer the stream and were not taken yet.")]
        | UnsetType
    ) = UNSET
    untaken: (
        Annotated[list[str], Meta(description="Ids of the steers that you had not taken when the message ended.")]
        | UnsetType
    ) = UNSET


class StoppedStream(Shape, frozen=True, kw_only=True):
    """A streamed message after a request to stop it."""

    of: Annotated[str, Meta(description="Id of the opening message.")]
    state: Annotated[str, Meta(pattern="^(open|complete|aborted|stopped)$")]
    have: Annotated[int, Meta(ge=0, description="Number of the newest part that the bus keeps.")]
    stopping: Annotated[bool, Meta(description="The owner was asked to stop, and has not ended the message yet.")]


class AdoptedStream(Shape, frozen=True, kw_only=True):
    """A streamed message with its new owner."""

    of: Annotated[str, Meta(description="Id of the opening message.")]
    mode: Annotated[str, Meta(pattern="^(text|parts)$")]
    have: Annotated[int, Meta(ge=0, description="Number of the newest part. The next one is `have` + 1.")]
    attempt: Annotated[int, Meta(ge=1, description="It grows with each adoption.")]
    token: Annotated[str, Meta(description="Each append and the end must have this `token` from now on.")]
    stopping: Annotated[bool, Meta(description="Somebody asked the owner to stop.")]


class Stream(Shape, frozen=True, kw_only=True):
    """A streamed message as everybody sees it who may read it."""

    of: Annotated[str, Meta(description="Id of the opening message, which names the stream.")]
    room: str
    channel: str
    seq: Annotated[int, Meta(ge=1, description="Position of the opening message in the log.")]
    mode: Annotated[str, Meta(pattern="^(text|parts)$")]
    state: Annotated[str, Meta(pattern="^(open|complete|aborted|stopped)$")]
    have: Annotated[int, Meta(ge=0, description="Number of the newest part; 0: none.")]
    attempt: Annotated[int, Meta(ge=1, description="It grows with each adoption.")]
    stopping: Annotated[bool, Meta(description="Somebody asked the owner to stop, and the message is still open.")]
    steers: Annotated[int, Meta(ge=0, description="Number of the messages that steer it and were not taken yet.")]
    end_seq: Annotated[int | None, Meta(description="Position of the end in the log; null while the message is open.")]


class MessageList(Page[Message], frozen=True, kw_only=True):
    """A page of messages. With a filter a page may be shorter than `limit` and still have a next page."""


class Published(Shape, frozen=True):
    """The position of a published message. ``bus.services.publish`` and REST return it."""

    id: Annotated[str, Meta(description="Id of the delivered message.")]
    room: str
    channel: str
    seq: Annotated[
        int | None,
        Meta(
            description="Position in the log; null on ephemeral channels, and inside a transaction with `durable=False`."
        ),
    ]
    duplicate: Annotated[
        bool, Meta(description="The message was published before; `seq` is that of the first publish.")
    ] = False
    unproven: Annotated[
        bool,
        Meta(
            description="The target of this private message is disconnected. It gets the message only with its resume token."
        ),
    ] = False
    stream: (
        Annotated[StreamPlace, Meta(description="For an opening, an append or an end: the streamed message.")]
        | UnsetType
    ) = UNSET
    steered: (
        Annotated[bool, Meta(description="For a steer: whether the streamed message was still open.")] | UnsetType
    ) = UNSET


class Delivery(Shape, frozen=True, kw_only=True):
    """The positions of the messages of a batch, or of the copies of a private message, in order."""

    results: list[Published]
    unknown_targets: Annotated[list[str], Meta(description="The unknown targets. The other targets got the message.")]


# --- rooms and channels -----------------------------------------------------------------------------------------------


class Room(Shape, frozen=True, kw_only=True):
    """A room, as the caller may see it."""

    room: Annotated[str, Meta(description="Name of the room.")]
    description: str
    private: Annotated[bool, Meta(description="Invisible without a grant.")]
    presence: Annotated[
        bool | None, Meta(description="Whether joins and leaves are announced; null: the setting of the server.")
    ]
    hardcoded: Annotated[bool, Meta(description="Built in; it cannot be deleted.")]
    created_at: WireTime
    created_by: str
    channels: Annotated[int, Meta(description="Number of channels that the caller may see.")]
    participants: Annotated[int, Meta(description="Number of connected clients in its channels.")]


class RoomList(Page[Room], frozen=True, kw_only=True):
    """A page of rooms."""


class Channel(Shape, frozen=True, kw_only=True):
    """A channel in a list."""

    room: str
    channel: str
    participants: Annotated[int, Meta(description="Number of connected members.")]
    description: str
    created_at: WireTime
    created_by: str
    type: str
    hardcoded: Annotated[bool, Meta(description="Built in; it cannot be deleted.")]
    ephemeral: Annotated[bool, Meta(description="Messages are delivered but not stored.")]
    messages: Annotated[int, Meta(description="Number of messages so far, which is the newest seq.")]
    last_activity: WireTime | None


class ChannelList(Page[Channel], frozen=True, kw_only=True):
    """A page of channels."""


class ActiveChannel(Shape, frozen=True, kw_only=True):
    """A channel that has members."""

    room: str
    channel: str
    participants: int


class Card(Shape, frozen=True, kw_only=True):
    """What other clients may know of a client."""

    client_id: str
    client_type: str
    screen_name: str | None
    avatar: str | None


class Participant(Card, frozen=True, kw_only=True):
    """A member of a channel."""

    joined_at: WireTime
    last_activity: WireTime | None


class ChannelInfo(Shape, frozen=True, kw_only=True):
    """A channel with its members, metadata and newest seq."""

    room: str
    channel: str
    participants: Annotated[
        list[Participant], Meta(description="At most 1000; empty for callers without the right `presence`.")
    ]
    participant_count: int
    metadata: Annotated[
        Object,
        Meta(
            description="created_at, created_by, type, hardcoded, description, ephemeral, retention; and your own keys."
        ),
    ]
    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The newest seq.")]


# --- clients and the server -------------------------------------------------------------------------------------------


class Client(Card, frozen=True, kw_only=True):
    """A connected client."""

    channels: Annotated[list[str], Meta(description="The client's channels whose members the caller may see.")]
    connected_at: WireTime | None
    last_activity: WireTime | None
    personality: Annotated[Object, Meta(description="Only admins see it.")] | UnsetType = UNSET


class ClientList(Page[Client], frozen=True, kw_only=True):
    """A page of connected clients."""


class Stats(Shape, frozen=True, kw_only=True):
    """Figures over all processes."""

    total_connections: Annotated[int, Meta(description="Number of connections so far.")]
    active_connections: int
    active_rooms: Annotated[int, Meta(description="Number of rooms with members.")]
    active_channels: int
    total_messages: Annotated[int, Meta(description="Number of messages so far.")]


class Server(Shape, frozen=True, kw_only=True):
    """The server's version, and that of its protocol."""

    version: str
    protocol: str


class ServerStats(Shape, frozen=True, kw_only=True):
    """The server and its figures."""

    server: Server
    stats: Stats


class Process(Shape, frozen=True, kw_only=True):
    """A process of the bus."""

    id: str
    host: str
    pid: int
    version: str
    started_at: WireTime
    heartbeat_at: WireTime
    alive: Annotated[bool, Meta(description="Whether its last heartbeat is recent.")]
    clients: Annotated[int, Meta(description="Number of connected clients.")]
    stats: Annotated[Object, Meta(description="Its figures at the last heartbeat.")]


class ProcessList(Shape, frozen=True, kw_only=True):
    """The processes of the bus."""

    results: list[Process]


# --- identity and rights ----------------------------------------------------------------------------------------------


class Me(Shape, frozen=True, kw_only=True):
    """The caller's identity, as the server sees it."""

    name: str
    role: Literal["admin", "user", "anonymous"]
    user: str | None
    token: Annotated[str | None, Meta(description="Name of the access token of this request.")]
    groups: list[str]
    scopes: Annotated[list[str] | None, Meta(description="null: no restriction.")]
    client_ids: Annotated[list[str], Meta(description="Client ids that belong to the caller.")]
    me: Annotated[
        str | None,
        Meta(description="Value of `{me}` in the patterns of grants, such as user-7; null: none."),
    ]
    expires_at: WireTime | None


class Token(Shape, frozen=True, kw_only=True):
    """An access token, without its secret."""

    id: int
    name: str
    prefix: Annotated[str, Meta(description="The first characters of the secret, to recognise the token.")]
    user: Annotated[str | None, Meta(description="The Django user of the token.")]
    admin: bool
    scopes: Annotated[list[str], Meta(description="Allowed actions; empty: all actions of the user.")]
    created_at: WireTime
    expires_at: WireTime | None
    last_used_at: WireTime | None
    revoked_at: WireTime | None
    secret: (
        Annotated[str, Meta(description="The secret. Only the answer that creates the token contains it.")] | UnsetType
    ) = UNSET


class TokenList(Page[Token], frozen=True, kw_only=True):
    """A page of access tokens."""


class Ticket(Shape, frozen=True, kw_only=True):
    """A ticket, which opens one socket."""

    ticket: Annotated[
        str, Meta(description="Send it as sub-protocol `ticket.<ticket>`, or as `ticket` in the first frame or URL.")
    ]
    expires_at: Annotated[WireTime, Meta(description="End of its validity.")]


class Grant(Shape, frozen=True, kw_only=True):
    """A grant."""

    id: int
    subject: str
    subject_name: str
    action: str
    pattern: str
    allow: bool
    created_at: WireTime
    created_by: str


class GrantList(Page[Grant], frozen=True, kw_only=True):
    """A page of grants."""


class AuditEntry(Shape, frozen=True, kw_only=True):
    """An entry of the audit log."""

    id: int
    at: WireTime
    actor: Annotated[str, Meta(description="Name of the actor.")]
    principal: Annotated[
        str,
        Meta(
            description="Identity of the actor: user:…, token:…, jwt:… or system; empty for anonymous clients and old entries."
        ),
    ]
    door: Annotated[str, Meta(description="Interface: socket, rest, admin or command.")]
    action: str
    target: str
    details: Object


class AuditList(Page[AuditEntry], frozen=True, kw_only=True):
    """A page of the audit log, newest first."""


# --- errors -----------------------------------------------------------------------------------------------------------


class Fault(Shape, frozen=True, kw_only=True):
    """An error. Its codes are the same on the socket and over REST."""

    code: Annotated[str, Meta(description="Stable name of the error, such as CHANNEL_NOT_FOUND.")]
    number: Annotated[int, Meta(description="Number of the error, equal to its HTTP status.")]
    message: Annotated[str, Meta(description="The fault, and what to do.")]
    details: Annotated[list[Any], Meta(description="All faults, or further facts.")]
    retry_after: Annotated[float, Meta(description="Seconds to wait before a retry.")] | UnsetType = UNSET


class ErrorAnswer(Shape, frozen=True, kw_only=True):
    """The answer to every failed request."""

    error: Fault
