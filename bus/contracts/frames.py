"""The shapes of the bus's frames for the AsyncAPI document. ``bus.protocol.dialects`` validates frames."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from ..protocol.amending import LONGEST_REACTION
from ..protocol.appends import LONGEST_TOKEN, LONGEST_UID, MOST_PARTS, MOST_TAKEN
from ..protocol.asking import LONGEST_ERROR
from ..protocol.names import CLIENT_ID_RULE, NAME_RULE
from ..shapes import AgentCard, Card, Epoch, Fault, Message, Object, Seq, Status, WireTime
from ..version import PROTOCOL

RoomText = Annotated[str, Meta(description=f"Room, or room:channel. A name has {NAME_RULE}", max_length=129)]
ChannelText = Annotated[str, Meta(description=f"Channel, or room:channel. A name has {NAME_RULE}", max_length=129)]
ClientId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.@-]{1,64}$", description=f"A client_id: {CLIENT_ID_RULE}")]
StreamId = Annotated[str, Meta(min_length=1, max_length=LONGEST_UID)]
FrameId = Annotated[str, Meta(min_length=1, max_length=128, description="The id that the sender gave to the frame.")]


# --- what clients send ---------------------------------------------------------------------------------------------------


class Position(msgspec.Struct):
    """A position in a log."""

    seq: Seq
    epoch: str | None = None


class Resume(msgspec.Struct):
    """The proof and the positions of a client that reconnects."""

    token: Annotated[str | None, Meta(description="The `resume_token` of the last registration.")] = None
    positions: Annotated[
        dict[str, Position],
        Meta(description="The last received position of each log, by address, for example science:explore."),
    ] = {}


class Register(msgspec.Struct):
    """The requested identity of a client, its initial channel, and its positions. ``type`` is optional."""

    type: Literal["register"] | UnsetType = UNSET
    client_id: ClientId | None = None
    client_type: Annotated[
        str, Meta(max_length=64, description="human, dashboard, ai-agent, service, app, or your own word.")
    ] = "app"
    room: RoomText | None = None
    channel: ChannelText | None = None
    screen_name: Annotated[str, Meta(max_length=128)] | None = None
    avatar: Annotated[str, Meta(max_length=2048)] | None = None
    personality: Object | None = None
    card: Annotated[AgentCard | None, Meta(description="What the client says of itself; other keys are ignored.")] = (
        None
    )
    token: Annotated[str | None, Meta(description="Access token, for clients that cannot send headers.")] = None
    since: Annotated[
        int | str | None,
        Meta(
            description="Replay the initial channel after this seq or ISO time. `mark`: it and the inbox after your marks."
        ),
    ] = None
    epoch: Annotated[str | None, Meta(description="The epoch that `since` belongs to.")] = None
    resume: Resume | None = None


class _Content(msgspec.Struct, kw_only=True):
    version: Annotated[
        Literal["1.0"] | None,
        Meta(description=f'"{PROTOCOL}" for the v1 dialect. `id` is then required and begins with arq_.'),
    ] = None
    id: Annotated[
        FrameId | int | None, Meta(description="A repeated id of the same sender within the window is published once.")
    ] = None
    room: RoomText | None = None
    channel: ChannelText | None = None
    message: Annotated[Any, Meta(description="The text. In v1 it may be in the payload.")] = None
    payload: Annotated[Object | None, Meta(description="Any JSON object. Its bytes are passed on unchanged.")] = None
    metadata: Object | None = None
    timestamp: Annotated[
        str | None, Meta(description="The sender's own time. It is passed on as client_timestamp.")
    ] = None
    ack: Annotated[bool | None, Meta(description="Send an ack when the message is durable.")] = None
    echo: Annotated[bool | None, Meta(description="Deliver the message to the sender too.")] = None
    stream: Annotated[
        Any,
        Meta(
            description=(
                'An object, {} or {"mode": "text"} or {"mode": "parts"}, makes this the opening of a streamed message. '
                "Any other value is a key of your own."
            )
        ),
    ] = None
    steer: Annotated[
        Any,
        Meta(
            description=(
                "The id of a streamed message (arq_…) that this message steers. Any other value is a key of your own."
            )
        ),
    ] = None

    ask: Annotated[
        Any,
        Meta(
            description=(
                "An object makes this a question: `timeout` (seconds), `durable` and `correlation`, all optional. "
                "Any other value is a key of your own."
            )
        ),
    ] = None
    traceparent: Annotated[
        Any, Meta(description="The trace context, in the form of the W3C. Any other value is a key of your own.")
    ] = None
    tracestate: Annotated[Any, Meta(description="More of the trace context. It counts beside a `traceparent`.")] = None


class Event(_Content, kw_only=True):
    """A message to a channel, to a whole room (``room`` alone), or to everybody (``room: "*"``, admins only)."""

    type: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        Meta(description="Without `version`, any word that is not the type of another frame."),
    ] = "event"


class Private(_Content, kw_only=True):
    """A private message, which goes into the inbox of each target."""

    type: Literal["private"]
    to: Annotated[ClientId | list[ClientId], Meta(description="One client_id or several.")]


class System(_Content, kw_only=True):
    """A system message. Only admins may send it."""

    type: Literal["system"]


class Append(msgspec.Struct, kw_only=True):
    """A part of a streamed message that you opened, or its end. Other keys are ignored."""

    type: Literal["append"]
    of: Annotated[StreamId, Meta(description="Id of the opening message, which names the streamed message.")]
    n: Annotated[
        int,
        Meta(ge=0, le=MOST_PARTS, description="Number of the part: 1, 2, 3 … An end without a part has the last one."),
    ]
    delta: Annotated[str | None, Meta(description="The next text, in mode `text`.")] = None
    part: Annotated[Object | None, Meta(description="The next JSON object, in mode `parts`.")] = None
    end: Annotated[
        Literal["complete", "aborted", "stopped"] | None, Meta(description="End the message in this state.")
    ] = None
    payload: Annotated[Object | None, Meta(description="The JSON object of the end. Only with `end`.")] = None
    took: Annotated[
        Annotated[list[StreamId], Meta(max_length=MOST_TAKEN)] | None,
        Meta(description="Ids of messages that steered this one, and that you have taken."),
    ] = None
    token: Annotated[
        Annotated[str, Meta(min_length=1, max_length=LONGEST_TOKEN)] | None,
        Meta(description="The token of your adoption, from the second `attempt` on."),
    ] = None
    id: Annotated[
        FrameId | int | None, Meta(description="Named in the answer. For an end it becomes the message's id.")
    ] = None
    ack: Annotated[bool | None, Meta(description="Send an ack when the part is durable.")] = None
    version: Annotated[Literal["1.0"] | None, Meta(description="`id` is then required and begins with arq_.")] = None


class Reply(msgspec.Struct, kw_only=True):
    """The answer to a question. It goes to its asker, so it has no address."""

    type: Literal["reply"]
    to_message: Annotated[str, Meta(min_length=1, max_length=LONGEST_UID, description="The `id` of the question.")]
    reply_to: Annotated[
        ClientId | None, Meta(description="The `reply_to` of the question, in case two askers chose the same id.")
    ] = None
    error: Annotated[
        Annotated[str, Meta(min_length=1, max_length=LONGEST_ERROR)] | None,
        Meta(description="Why there is no answer."),
    ] = None
    message: Annotated[Any, Meta(description="The text.")] = None
    payload: Annotated[Object | None, Meta(description="Any JSON object.")] = None
    metadata: Object | None = None
    id: Annotated[FrameId | int | None, Meta(description="A repeated id is published once.")] = None
    ack: Annotated[bool | None, Meta(description="Send an ack when the reply is durable.")] = None
    version: Annotated[Literal["1.0"] | None, Meta(description="`id` is then required and begins with arq_.")] = None


class Amend(msgspec.Struct, kw_only=True):
    """A change of another message in the same channel: an edit, a delete, or a reaction. It is a message of its own."""

    type: Literal["amend"]
    of: Annotated[str, Meta(min_length=1, max_length=LONGEST_UID, description="The `id` of the message.")]
    do: Literal["edit", "delete", "react", "unreact"]
    of_seq: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="The `seq` of the message. With it the server finds any.")
    ] = None
    reaction: Annotated[
        Annotated[str, Meta(min_length=1, max_length=LONGEST_REACTION)] | None,
        Meta(description="For react and unreact: an emoji, or a short text."),
    ] = None
    room: RoomText | None = None
    channel: ChannelText | None = None
    message: Annotated[Any, Meta(description="For an edit: the new text.")] = None
    payload: Annotated[Object | None, Meta(description="For an edit: the new payload.")] = None
    metadata: Object | None = None
    id: Annotated[FrameId | int | None, Meta(description="A repeated id is published once.")] = None
    ack: Annotated[bool | None, Meta(description="Send an ack when the amendment is durable.")] = None
    echo: Annotated[bool | None, Meta(description="Deliver the amendment to the sender too.")] = None
    version: Annotated[Literal["1.0"] | None, Meta(description="`id` is then required and begins with arq_.")] = None


# --- what the server sends -----------------------------------------------------------------------------------------------


class Growth(msgspec.Struct, kw_only=True):
    """A streamed message, as its owner needs it to go on."""

    of: Annotated[str, Meta(description="Id of the opening message.")]
    have: Annotated[int, Meta(ge=0, description="Number of the newest part that the bus keeps.")]
    state: Literal["open", "complete", "aborted", "stopped"]
    attempt: Annotated[int, Meta(ge=1, description="It grows with each adoption.")]
    stopping: Annotated[Literal[True], Meta(description="Somebody asked you to stop.")] | UnsetType = UNSET
    untaken: (
        Annotated[list[str], Meta(description="Ids of the steers that you had not taken when the message ended.")]
        | UnsetType
    ) = UNSET


class Ack(msgspec.Struct, kw_only=True):
    """The acknowledgement that a message is durable."""

    type: Literal["ack"]
    request_id: str | None
    seq: Annotated[
        Seq | None, Meta(description="Position of the message; null on ephemeral channels and with `targets`.")
    ]
    room: str
    channel: str
    targets: (
        Annotated[
            dict[str, Seq | None],
            Meta(description="For a private message to several targets: its position in each inbox."),
        ]
        | UnsetType
    ) = UNSET
    duplicate: (
        Annotated[bool, Meta(description="This id was published before; `seq` is that of the first message.")]
        | UnsetType
    ) = UNSET
    kept: (
        Annotated[
            Literal[False],
            Meta(description="A gate of the project swallowed the message: it is in no log. `seq` is null."),
        ]
        | UnsetType
    ) = UNSET
    unproven: (
        Annotated[
            list[str],
            Meta(description="For a private message: disconnected targets that get it only with their resume token."),
        ]
        | UnsetType
    ) = UNSET
    stream: (
        Annotated[Growth, Meta(description="For an opening, an append or an end: the streamed message.")] | UnsetType
    ) = UNSET
    steered: (
        Annotated[bool, Meta(description="For a steer: whether the streamed message was still open.")] | UnsetType
    ) = UNSET


class Part(msgspec.Struct, kw_only=True):
    """The next part of a streamed message. Apply it if `n` is the next number, and ignore it if you have it."""

    type: Literal["append"]
    room: str
    channel: str
    of: Annotated[str, Meta(description="Id of the opening message.")]
    n: Annotated[int, Meta(ge=1, description="Number of the part.")]
    delta: Annotated[str, Meta(description="The next text.")] | UnsetType = UNSET
    part: Annotated[Object, Meta(description="The next JSON object.")] | UnsetType = UNSET


class Snapshot(msgspec.Struct, kw_only=True):
    """Everything of a streamed message up to part `upto`. It replaces what you have."""

    type: Literal["append"]
    room: str
    channel: str
    of: Annotated[str, Meta(description="Id of the opening message.")]
    upto: Annotated[int, Meta(ge=0, description="Number of the last part in it.")]
    text: Annotated[str, Meta(description="The whole text so far.")] | UnsetType = UNSET
    parts: Annotated[list[Object], Meta(description="All parts so far.")] | UnsetType = UNSET
    snapshot: Literal[True]
    attempt: Annotated[int, Meta(ge=1, description="It grows with each adoption.")]
    mode: Literal["text", "parts"]
    of_seq: Annotated[Seq, Meta(description="Position of the opening message.")] | UnsetType = UNSET
    from_: Annotated[str, Meta(description="The client_id of the owner.")] | UnsetType = field(
        name="from", default=UNSET
    )


class Error(msgspec.Struct, kw_only=True):
    """A frame was refused, or the connection will be closed."""

    type: Literal["error"]
    request_id: Annotated[str | None, Meta(description="The id of the refused frame, or null.")]
    error: Fault


class CommandError(msgspec.Struct, kw_only=True):
    """The only answer to a refused command. v0 clients read the top level; v1 clients read ``payload``."""

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
    """The limits of one connection."""

    frame_bytes: int
    depth: Annotated[int, Meta(description="Allowed levels of nesting in a frame's JSON.")]
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
    """The state of a log for this client."""

    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The newest seq.")]
    recovered: (
        Annotated[bool, Meta(description="Whether all messages after the requested position follow.")] | UnsetType
    ) = UNSET
    first_seq: (
        Annotated[Seq, Meta(description="The first message that is left, if the log was not recovered.")] | UnsetType
    ) = UNSET
    mark: (
        Annotated[Seq, Meta(description="With `since` mark: the seq after which the messages follow.")] | UnsetType
    ) = UNSET
    withheld: (
        Annotated[bool, Meta(description="For the inbox: it has private messages for an earlier client with this id.")]
        | UnsetType
    ) = UNSET


class MarkPlace(msgspec.Struct, kw_only=True):
    """How far a client or its principal has dealt with a log."""

    seq: Seq
    epoch: Epoch


class Registered(msgspec.Struct, kw_only=True, tag_field="event", tag="registered"):
    """The answer to a registration. Missed messages follow."""

    client_id: str
    client_type: str
    role: str
    room: str
    channel: str
    channels: Annotated[dict[str, LogState], Meta(description="All logs that this client receives, by address.")]
    resume_token: str
    participants: Annotated[int | None, Meta(description="Null where members do not learn how many they are.")]
    marks: (
        Annotated[dict[str, MarkPlace], Meta(description="Your marks, by address of the log; the newest 200.")]
        | UnsetType
    ) = UNSET


class ClientJoined(Card, frozen=True, kw_only=True, tag_field="event", tag="client_joined"):
    """A client joined the channel."""

    participants: int
    status: Annotated[Status, Meta(description="What it does now.")] | UnsetType = UNSET


class ClientUpdated(Card, frozen=True, kw_only=True, tag_field="event", tag="client_updated"):
    """A member of the channel has another status."""

    status: Annotated[Status | None, Meta(description="What it does now; null: its status ended.")]


class ClientLeft(Card, frozen=True, kw_only=True, tag_field="event", tag="client_left"):
    """A client left the channel."""

    participants: int


class Presence(msgspec.Struct, kw_only=True, tag_field="event", tag="presence"):
    """The combined joins, leaves and new statuses of a short period, in a channel with many members."""

    joined: list[Object]
    joined_count: int
    left: list[Object]
    left_count: int
    participants: int
    updated: (
        Annotated[list[Object], Meta(description="Clients with another status, each with its `status`.")] | UnsetType
    ) = UNSET
    updated_count: int | UnsetType = UNSET


class Unsubscribed(msgspec.Struct, kw_only=True, tag_field="event", tag="unsubscribed"):
    """Your membership of a channel ended: your access was revoked (REVOKED), or the channel was deleted (DELETED)."""

    room: str
    channel: str
    reason: str


class FollowedNotice(msgspec.Struct, kw_only=True, tag_field="event", tag="followed"):
    """A channel of a room that you follow is followed, too. Its messages after ``seq`` come next."""

    room: str
    channel: Annotated[str, Meta(description="`*` is the log of the whole room.")]
    epoch: Epoch
    seq: Seq
    recovered: Annotated[bool, Meta(description="False: older messages are gone.")] | UnsetType = UNSET
    first_seq: Seq | UnsetType = UNSET


class Unfollowed(msgspec.Struct, kw_only=True, tag_field="event", tag="unfollowed"):
    """A channel is no longer followed: your access was revoked (REVOKED), or the channel was deleted (DELETED)."""

    room: str
    channel: str
    reason: str


class FollowTruncated(msgspec.Struct, kw_only=True, tag_field="event", tag="follow_truncated"):
    """The room has more channels than you may follow. The newest ones are left out."""

    room: str
    limit: Annotated[int, Meta(description="Maximum number of followed channels of a connection.")]


class StopRequested(msgspec.Struct, kw_only=True, tag_field="event", tag="stop_requested"):
    """Somebody asked you to stop your streamed message. End it; the state becomes `stopped`."""

    of: str


class ErasedOne(msgspec.Struct, kw_only=True):
    """A message whose content was erased."""

    seq: Seq
    id: str
    of_seq: Annotated[int, Meta(description="For an amendment: the seq of its message.")] | UnsetType = UNSET
    do: Literal["edit", "delete", "react", "unreact"] | UnsetType = UNSET


class Erased(msgspec.Struct, kw_only=True, tag_field="event", tag="erased"):
    """The content of messages was erased. Drop your copies."""

    messages: list[ErasedOne]


class Steer(msgspec.Struct, kw_only=True, tag_field="event", tag="steer"):
    """A message steers your streamed message. Name its id in `took` once you have taken it."""

    of: str
    message: Message


class WorkChange(msgspec.Struct, kw_only=True):
    """What happened to a job."""

    what: Literal["claimed", "done", "returned", "dead", "discarded", "retried"]
    seq: Annotated[Seq, Meta(description="Position of the job's message.")]
    attempt: Annotated[int, Meta(ge=0, description="Number of the claim.")]
    by: Annotated[str | None, Meta(description="The client_id of who did it; null for the server.")]
    at: WireTime


class Work(msgspec.Struct, kw_only=True, tag_field="event", tag="work"):
    """What happened to jobs of a work channel in a short period."""

    changes: Annotated[list[WorkChange], Meta(description="The first changes, at most 50.")]
    counts: Annotated[dict[str, int], Meta(description="The number of changes of each kind.")]


class Notice(msgspec.Struct, kw_only=True):
    """A system frame of the server. ``payload.event`` names the event."""

    version: Literal["1.0"]
    type: Literal["system"]
    from_: Literal["arqonbus_server"] = field(name="from")
    room: str | UnsetType = UNSET
    channel: str | UnsetType = UNSET
    payload: (
        Welcome
        | Registered
        | ClientJoined
        | ClientLeft
        | ClientUpdated
        | Presence
        | Unsubscribed
        | FollowedNotice
        | Unfollowed
        | FollowTruncated
        | StopRequested
        | Erased
        | Steer
        | Work
    )
