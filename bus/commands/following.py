"""The commands ``follow`` and ``unfollow``: the messages of a whole room, without being a member."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..protocol.errors import BusError, ErrorCode
from ..shapes import Epoch, Seq, Shape
from .base import LISTING, Answer, Context, Parameters, command

Room = Annotated[str | None, Meta(description="Room. The default is the room of the frame, or else your initial room.")]


class Reached(msgspec.Struct):
    """The last received message of a log."""

    seq: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    epoch: str | None = None


class FollowParameters(Parameters):
    """Parameters of ``follow``."""

    room: Room = None
    positions: Annotated[
        Annotated[dict[str, Reached], Meta(max_length=10_000)],
        Meta(
            description="The last message that you received of each channel: `seq` and `epoch`, by the channel's name. "
            "`*` is the log of the whole room. The later messages follow. A channel that is younger than all of these begins "
            "at its first message, and another one without a position now."
        ),
    ] = msgspec.field(default_factory=dict)

    def cost(self) -> int:
        """Each position may need a read of its log."""
        return len(self.positions) // 10


class FollowedChannel(Shape, frozen=True, kw_only=True):
    """A followed log."""

    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The newest seq.")]
    recovered: Annotated[
        bool | None,
        Meta(description="Whether all messages after your position follow; null without one, and for a member."),
    ] = None
    new: (
        Annotated[
            bool, Meta(description="True if the channel came after your positions: it begins at its first message.")
        ]
        | UnsetType
    ) = UNSET
    first_seq: (
        Annotated[Seq, Meta(description="The first message that is left, if the log was not recovered.")] | UnsetType
    ) = UNSET


class FollowResult(Shape, frozen=True, kw_only=True):
    """The followed channels. Missed messages follow, and then live ones, also of channels to come."""

    room: str
    channels: Annotated[
        dict[str, FollowedChannel],
        Meta(description="The channels that you may join, by name. `*` is the log of the whole room."),
    ]
    truncated: Annotated[bool, Meta(description="Whether the room has more channels than you may follow.")]


@command("follow", FollowParameters, FollowResult, errors=(ErrorCode.LIMIT_REACHED,), cost=LISTING)
async def follow(context: Context, parameters: FollowParameters) -> Answer:
    """Follow all channels of a room that you may join, also those to come, without being a member."""
    room = _room(context, parameters.room)
    positions = {name: (place.seq, place.epoch) for name, place in parameters.positions.items()}
    followed = await context.process.follow(room, positions)
    channels = {
        name: FollowedChannel(
            epoch=log.epoch,
            seq=log.seq,
            recovered=log.recovered,
            new=log.new or UNSET,
            first_seq=UNSET if log.first_seq is None else log.first_seq,
        )
        for name, log in followed.channels.items()
    }
    result = FollowResult(room=room, channels=channels, truncated=followed.truncated)
    return Answer(f"Following {len(channels)} logs of {room}", result, follow=followed)


class UnfollowParameters(Parameters):
    """Parameters of ``unfollow``."""

    room: Room = None


class UnfollowResult(Shape, frozen=True, kw_only=True):
    """The room that is followed no longer, and the rooms that still are."""

    room: str
    rooms: list[str]


@command("unfollow", UnfollowParameters, UnfollowResult, errors=(ErrorCode.NOT_A_MEMBER,))
async def unfollow(context: Context, parameters: UnfollowParameters) -> Answer:
    """Follow a room no longer. Your memberships stay."""
    room = _room(context, parameters.room)
    rooms = await context.process.unfollow(room)
    return Answer(f"Following {room} no longer", UnfollowResult(room=room, rooms=rooms))


def _room(context: Context, named: str | None) -> str:
    """The room of a command. Raises ``BusError`` VALIDATION_ERROR for a channel."""
    room = named or context.room or context.initial.room
    name, colon, channel = room.partition(":")
    if colon and channel != "*":
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            "You follow a room with all of its channels. Use `join_channel` for one channel.",
            [{"field": "room", "message": "Give the room alone."}],
        )
    return name
