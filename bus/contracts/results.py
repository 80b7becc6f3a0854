"""The results of the commands, for the contract: what stands in ``result`` of an answer that went well."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .frames import Epoch, Message, Seq, WireTime

Object = dict[str, Any]


class ServerFacts(msgspec.Struct, kw_only=True):
    """The server."""

    version: str
    protocol: str
    started_at: WireTime
    uptime_seconds: float


class Stats(msgspec.Struct, kw_only=True):
    """Totals over all processes."""

    total_connections: int
    active_connections: int
    active_rooms: int
    active_channels: int
    total_messages: int


class Occupied(msgspec.Struct, kw_only=True):
    """A channel that has members."""

    room: str
    channel: str
    participants: int


class ClientRow(msgspec.Struct, kw_only=True):
    """A connected client."""

    client_id: str
    client_type: str
    screen_name: str | None
    avatar: str | None
    channels: list[str]
    connected_at: WireTime | None
    last_activity: WireTime | None
    personality: Annotated[Object, Meta(description="For admins.")] | UnsetType = UNSET


class StatusResult(msgspec.Struct, kw_only=True):
    """The server, its figures, and the channels and clients that you may see."""

    server: ServerFacts
    stats: Stats
    channels: list[Occupied]
    next_channel: Annotated[
        str | None, Meta(description="`after_channel` of the following page of channels; null at the end.")
    ]
    clients: list[ClientRow]
    next: Annotated[str | None, Meta(description="`after` of the following page of clients; null at the end.")]


class PingResult(msgspec.Struct, kw_only=True):
    """A pong."""

    pong: bool
    timestamp: WireTime
    echo: Any | UnsetType = UNSET


class HelpRow(msgspec.Struct, kw_only=True):
    """A command."""

    command: str
    summary: str
    who: str
    parameters: Annotated[Object, Meta(description="JSON Schema of each.")]
    required: list[str]
    errors: list[str]


class HelpResult(msgspec.Struct, kw_only=True):
    """The commands."""

    commands: list[HelpRow]


class CreatedResult(msgspec.Struct, kw_only=True):
    """A new channel."""

    room: str
    channel: str
    metadata: Object


class DeletedResult(msgspec.Struct, kw_only=True):
    """A channel that is gone."""

    room: str
    channel: str
    deleted: bool


class Place(msgspec.Struct, kw_only=True):
    """Where a log stands."""

    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The head.")]


class JoinedResult(msgspec.Struct, kw_only=True):
    """A membership; what was missed follows, then what comes."""

    room: str
    channel: str
    created: bool
    participants: int
    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The head.")]
    recovered: Annotated[bool | None, Meta(description="null: nothing was asked for.")]
    positions: Annotated[
        dict[str, Place], Meta(description="Where the logs that come with it stand, the room's own too, by address.")
    ]
    first_seq: Annotated[Seq, Meta(description="Not recovered: the first message that is left.")] | UnsetType = UNSET


class LeftResult(msgspec.Struct, kw_only=True):
    """The memberships that are left."""

    room: str
    channel: str
    channels: list[str]


class ChannelRow(msgspec.Struct, kw_only=True):
    """A channel."""

    room: str
    channel: str
    participants: int
    description: str
    created_at: WireTime
    created_by: str
    type: str
    hardcoded: bool
    ephemeral: Annotated[bool, Meta(description="Messages are delivered but not kept.")]
    messages: Annotated[int, Meta(description="Messages ever: the head of its log.")]
    last_activity: WireTime | None


class ListResult(msgspec.Struct, kw_only=True):
    """Channels."""

    channels: list[ChannelRow]
    room: Annotated[str | None, Meta(description="The room; null for all of them.")]
    next: Annotated[str | None, Meta(description="`after` of the following page; null at the end.")]


class Participant(msgspec.Struct, kw_only=True):
    """A member of a channel."""

    client_id: str
    client_type: str
    screen_name: str | None
    avatar: str | None
    joined_at: WireTime
    last_activity: WireTime | None


class InfoResult(msgspec.Struct, kw_only=True):
    """A channel's members, metadata and head."""

    room: str
    channel: str
    participants: list[Participant]
    participant_count: int
    metadata: Object
    epoch: Epoch
    seq: Seq


class HistoryResult(msgspec.Struct, kw_only=True):
    """Messages as they were delivered, oldest first."""

    room: str
    channel: str | None
    messages: list[Message]
    next: Annotated[int | str | None, Meta(description="The cursor of the following page; null at the end.")]


RESULTS: dict[str, type[msgspec.Struct]] = {
    "status": StatusResult,
    "ping": PingResult,
    "help": HelpResult,
    "create_channel": CreatedResult,
    "delete_channel": DeletedResult,
    "join_channel": JoinedResult,
    "leave_channel": LeftResult,
    "list_channels": ListResult,
    "channel_info": InfoResult,
    "history": HistoryResult,
}
