"""Rooms, channels and their members."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from .base import Epoch, Object, Page, Seq, Shape, WireTime
from .status import Status
from .work import WorkRule

#: What the members of a channel learn of one another.
Presence = Literal["names", "counts", "none"]


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
    participants: Annotated[
        int | None, Meta(description="Number of connected members; null where you may not learn it.")
    ]
    description: str
    created_at: WireTime
    created_by: str
    type: str
    hardcoded: Annotated[bool, Meta(description="Built in; it cannot be deleted.")]
    ephemeral: Annotated[bool, Meta(description="Messages are delivered but not stored.")]
    work: Annotated[WorkRule, Meta(description="The rule of a work channel. Other channels have none.")] | UnsetType = (
        UNSET
    )
    presence: (
        Annotated[Presence, Meta(description="How much members learn of one another. Absent: as the room says.")]
        | UnsetType
    ) = UNSET
    messages: Annotated[int, Meta(description="Number of messages so far, which is the newest seq.")]
    last_activity: WireTime | None
    unread: (
        Annotated[int, Meta(ge=0, description="Number of messages behind your mark; absent without a mark.")]
        | UnsetType
    ) = UNSET


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
    status: Annotated[Status | None, Meta(description="What it does now.")] = None


class ChannelInfo(Shape, frozen=True, kw_only=True):
    """A channel with its members, metadata and newest seq."""

    room: str
    channel: str
    participants: Annotated[
        list[Participant],
        Meta(description="At most 1000; empty for callers without the right `presence`, and where names are not told."),
    ]
    participant_count: Annotated[int | None, Meta(description="Null where you may not learn it.")]
    metadata: Annotated[
        Object,
        Meta(
            description="created_at, created_by, type, hardcoded, description, ephemeral, retention, and `work` and "
            "`presence` where they are set; and your own keys."
        ),
    ]
    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The newest seq.")]
