"""The commands for channels: create, delete, join, leave, list and info."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .. import shapes
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import WHOLE, Address
from ..protocol.routing import resolve
from ..protocol.values import seq_of
from ..services import channel_lists
from ..services import channels as channel_service
from ..shapes import Epoch, Object, Seq, Shape
from .base import LISTING, LOOK, Answer, Context, Parameters, command

Room = Annotated[
    str | None,
    Meta(description="Room, or room:channel. The default is the room of the frame, or else your initial room."),
]
Channel = Annotated[
    str | None,
    Meta(
        description="Channel, or room:channel. The default is the channel of the frame, or else your initial channel."
    ),
]


#: The largest number that a column of the database holds.
MOST = 2**31 - 1


class ChannelParameters(Parameters):
    """A channel. Parameters win over the frame, and the frame wins over the initial pair."""

    room: Room = None
    channel: Channel = None


def target(context: Context, parameters: ChannelParameters) -> Address:
    """The channel of a command. Raises ``BusError`` INVALID_NAME or VALIDATION_ERROR."""
    room, channel = context.named(parameters.room, parameters.channel)
    address = resolve(room, channel, context.initial)
    if address.is_whole_room and not channel and not (room and ":" in room):
        address = Address(address.room, context.initial.channel)
    return address


class Retention(msgspec.Struct, forbid_unknown_fields=True):
    """The limits of a channel's history."""

    count: Annotated[
        Annotated[int, Meta(ge=0, le=MOST)] | None, Meta(description="Maximum number of stored messages; 0: no limit.")
    ] = None
    age: Annotated[
        Annotated[int, Meta(ge=0, le=MOST)] | None,
        Meta(description="Maximum age of stored messages in seconds; 0: no limit."),
    ] = None


class CreateParameters(ChannelParameters):
    """Parameters of ``create_channel``."""

    description: Annotated[str, Meta(max_length=500, description="Purpose of the channel.")] = ""
    metadata: Annotated[dict[str, Any], Meta(description="Your own values.")] = msgspec.field(default_factory=dict)
    ephemeral: Annotated[bool, Meta(description="Deliver messages without storing them: no seq, no history.")] = False
    retention: Annotated[
        Retention | None, Meta(description="Limits of the history. The default is the setting of the server.")
    ] = None
    type: Annotated[str, Meta(max_length=32, description="Your own word for the kind of channel.")] = "custom"
    presence: Annotated[
        Literal["names", "counts", "none"] | None,
        Meta(description="How much members learn of one another. The default is names, as the room says."),
    ] = None
    work: Annotated[
        dict[str, Any] | None,
        Meta(
            description="Makes a work channel, which hands each message to one worker: `lease`, `attempts`, `hold`, `dead`."
        ),
    ] = None


class CreatedResult(Shape, frozen=True, kw_only=True):
    """The created channel."""

    room: str
    channel: str
    metadata: Object


@command(
    "create_channel",
    CreateParameters,
    CreatedResult,
    who="admin",
    errors=(ErrorCode.CHANNEL_EXISTS, ErrorCode.INVALID_NAME),
)
async def create_channel(context: Context, parameters: CreateParameters) -> Answer:
    """Create a channel that stays until it is deleted."""
    room, channel = context.named(parameters.room, parameters.channel)
    if not (channel or (room and ":" in room)):
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            "The channel is missing. Give `channel`, or `room` as room:channel.",
            [{"field": "channel", "message": "`channel` is missing."}],
        )
    address = target(context, parameters)
    retention = parameters.retention or Retention()

    def create() -> CreatedResult:
        channel = channel_service.create_channel(
            context.actor,
            address,
            description=parameters.description,
            metadata=parameters.metadata,
            ephemeral=parameters.ephemeral,
            retention_count=retention.count,
            retention_age=retention.age,
            type=parameters.type,
            work=parameters.work,
            presence=parameters.presence,
        )
        return CreatedResult(room=address.room, channel=address.channel, metadata=channel.public_metadata())

    return Answer(f"Created channel {address}", await context.process.run_writer(create))


class DeletedResult(Shape, frozen=True, kw_only=True):
    """The deleted channel."""

    room: str
    channel: str
    deleted: bool


@command(
    "delete_channel",
    ChannelParameters,
    DeletedResult,
    who="admin",
    errors=(ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.CHANNEL_NOT_EMPTY, ErrorCode.CHANNEL_PROTECTED),
)
async def delete_channel(context: Context, parameters: ChannelParameters) -> Answer:
    """Remove an empty channel with its history."""
    address = target(context, parameters)
    await context.process.run_writer(lambda: channel_service.delete_channel(context.actor, address))
    result = DeletedResult(room=address.room, channel=address.channel, deleted=True)
    return Answer(f"Deleted channel {address}", result)


class JoinParameters(ChannelParameters):
    """Parameters of ``join_channel``."""

    since: Annotated[
        Annotated[int, Meta(ge=0)] | str | None,
        Meta(description="Replay the messages after this seq, ISO time, or `mark` (your own mark) first."),
    ] = None
    epoch: Annotated[str | None, Meta(description="The epoch that `since` belongs to.")] = None
    last: Annotated[
        Annotated[int, Meta(ge=0, le=100)] | None,
        Meta(description="The answer has so many of the newest messages. The later ones follow. Not with `since`."),
    ] = None
    parts: Annotated[
        bool | None,
        Meta(
            description="Receive the parts and snapshots of streamed messages, or only start and end. A new member gets them."
        ),
    ] = None


class Place(Shape, frozen=True, kw_only=True):
    """The newest position of a log."""

    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The newest seq.")]


class JoinedResult(Shape, frozen=True, kw_only=True):
    """The new membership. Missed messages follow, and then live ones."""

    room: str
    channel: str
    created: bool
    participants: Annotated[int | None, Meta(description="Null where members do not learn how many they are.")]
    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The newest seq.")]
    recovered: Annotated[
        bool | None, Meta(description="Whether all messages after `since` follow; null without `since`.")
    ]
    positions: Annotated[
        dict[str, Place],
        Meta(description="Newest positions of the channel's log and the room's own log, by address."),
    ]
    first_seq: (
        Annotated[Seq, Meta(description="The first message that is left, if the log was not recovered.")] | UnsetType
    ) = UNSET
    mark: (
        Annotated[Seq, Meta(description="With `since` mark: the seq after which the messages follow.")] | UnsetType
    ) = UNSET
    messages: (
        Annotated[
            list[shapes.Message] | None,
            Meta(
                description="With `last`: the newest messages up to `seq`, oldest first, or as many as fit. "
                "Null without the right to history."
            ),
        ]
        | UnsetType
    ) = UNSET


@command(
    "join_channel",
    JoinParameters,
    JoinedResult,
    errors=(ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.LIMIT_REACHED),
)
async def join_channel(context: Context, parameters: JoinParameters) -> Answer:
    """Join a channel, and optionally replay missed messages."""
    address = target(context, parameters)
    since, last = seq_of(parameters.since), parameters.last
    if since is not None and last is not None:
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            "Give either `since` or `last`.",
            [{"field": "last", "message": "This is not possible with `since`."}],
        )
    joined = await context.process.join(address, since, parameters.epoch, parts=parameters.parts, last=last)
    result = JoinedResult(
        room=address.room,
        channel=address.channel,
        created=joined.created,
        participants=joined.participants,
        epoch=joined.epoch,
        seq=joined.seq,
        recovered=joined.recovered,
        positions=joined.positions,
        first_seq=UNSET if joined.first_seq is None else joined.first_seq,
        mark=UNSET if joined.mark is None else joined.mark,
        messages=UNSET if last is None else _kept(joined.messages),
    )
    return Answer(f"Joined {address}", result, follow=joined)


def _kept(frames: list[bytes] | None) -> list[shapes.Message] | None:
    """The messages of an answer. The kept bytes go out as they are."""
    return None if frames is None else cast("list[shapes.Message]", [msgspec.Raw(frame) for frame in frames])


class LeftResult(Shape, frozen=True, kw_only=True):
    """The ended membership, and the remaining ones."""

    room: str
    channel: str
    channels: list[str]


@command("leave_channel", ChannelParameters, LeftResult, errors=(ErrorCode.NOT_A_MEMBER,))
async def leave_channel(context: Context, parameters: ChannelParameters) -> Answer:
    """Leave a channel."""
    address = target(context, parameters)
    left = await context.process.leave(address)
    return Answer(f"Left {address}", LeftResult(room=address.room, channel=address.channel, channels=left))


class ListParameters(Parameters):
    """Parameters of ``list_channels``."""

    room: Annotated[
        str | None, Meta(description="Room. The default is the room of the frame, or else your initial room.")
    ] = None
    all: Annotated[bool, Meta(description="List the channels of all rooms.")] = False
    limit: Annotated[int, Meta(ge=1, le=500, description="Maximum number of channels on the page.")] = 200
    after: Annotated[str, Meta(description="The `next` of the previous page.")] = ""


class ListResult(Shape, frozen=True, kw_only=True):
    """A page of channels."""

    channels: list[shapes.Channel]
    room: Annotated[str | None, Meta(description="The room; null for all rooms.")]
    next: Annotated[str | None, Meta(description="Value of `after` for the next page; null at the end.")]


@command("list_channels", ListParameters, ListResult, errors=(ErrorCode.ROOM_NOT_FOUND,), cost=LISTING, looks=True)
async def list_channels(context: Context, parameters: ListParameters) -> Answer:
    """List the channels of a room, or of all rooms, that you may see."""
    room: str | None = None
    if not parameters.all:
        room = (parameters.room or context.room or context.initial.room).partition(":")[0]
        resolve(room or ":", WHOLE, context.initial)
    rows, after = await context.process.ask(
        lambda: channel_lists.list_channels(
            context.actor, room=room, limit=parameters.limit, after=parameters.after, holder=context.holder
        )
    )
    return Answer(f"{len(rows)} channels", ListResult(channels=rows, room=room, next=after))


@command(
    "channel_info", ChannelParameters, shapes.ChannelInfo, errors=(ErrorCode.CHANNEL_NOT_FOUND,), cost=LOOK, looks=True
)
async def channel_info(context: Context, parameters: ChannelParameters) -> Answer:
    """Show a channel's members, metadata and newest seq."""
    address = target(context, parameters)
    info: shapes.ChannelInfo = await context.process.ask(lambda: channel_lists.channel_info(context.actor, address))
    told = "" if info.participant_count is None else f" has {info.participant_count} members"
    return Answer(f"{address}{told}", info)
