"""The shapes of ``result`` in successful answers to commands, for the AsyncAPI document."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .frames import Epoch, Message, Seq, WireTime

Object = dict[str, Any]


class ServerFacts(msgspec.Struct, kw_only=True):
    """Facts about the server."""

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
    """A channel with members."""

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
    personality: Annotated[Object, Meta(description="Only admins see it.")] | UnsetType = UNSET


class StatusResult(msgspec.Struct, kw_only=True):
    """The server, its figures, and the channels and clients that you may see."""

    server: ServerFacts
    stats: Stats
    channels: list[Occupied]
    next_channel: Annotated[
        str | None, Meta(description="Value of `after_channel` for the next page of channels; null at the end.")
    ]
    clients: list[ClientRow]
    next: Annotated[str | None, Meta(description="Value of `after` for the next page of clients; null at the end.")]


class PingResult(msgspec.Struct, kw_only=True):
    """The answer to a ping."""

    pong: bool
    timestamp: WireTime
    echo: Any | UnsetType = UNSET


class HelpRow(msgspec.Struct, kw_only=True):
    """The description of a command."""

    command: str
    summary: str
    who: str
    parameters: Annotated[Object, Meta(description="JSON Schema of each parameter.")]
    required: list[str]
    errors: list[str]


class HelpResult(msgspec.Struct, kw_only=True):
    """The descriptions of the commands."""

    commands: list[HelpRow]


class CreatedResult(msgspec.Struct, kw_only=True):
    """The created channel."""

    room: str
    channel: str
    metadata: Object


class DeletedResult(msgspec.Struct, kw_only=True):
    """The deleted channel."""

    room: str
    channel: str
    deleted: bool


class Place(msgspec.Struct, kw_only=True):
    """The newest position of a log."""

    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The newest seq.")]


class JoinedResult(msgspec.Struct, kw_only=True):
    """The new membership. Missed messages follow, and then live ones."""

    room: str
    channel: str
    created: bool
    participants: int
    epoch: Epoch
    seq: Annotated[Seq, Meta(description="The newest seq.")]
    recovered: Annotated[
        bool | None, Meta(description="Whether all messages after `since` follow; null without `since`.")
    ]
    positions: Annotated[
        dict[str, Place], Meta(description="Newest positions of the channel's log and the room's own log, by address.")
    ]
    first_seq: (
        Annotated[Seq, Meta(description="The first message that is left, if the log was not recovered.")] | UnsetType
    ) = UNSET


class LeftResult(msgspec.Struct, kw_only=True):
    """The ended membership, and the remaining ones."""

    room: str
    channel: str
    channels: list[str]


class ChannelRow(msgspec.Struct, kw_only=True):
    """A channel in a list."""

    room: str
    channel: str
    participants: int
    description: str
    created_at: WireTime
    created_by: str
    type: str
    hardcoded: bool
    ephemeral: Annotated[bool, Meta(description="Messages are delivered but not stored.")]
    messages: Annotated[int, Meta(description="Number of messages so far, which is the newest seq.")]
    last_activity: WireTime | None


class ListResult(msgspec.Struct, kw_only=True):
    """A page of channels."""

    channels: list[ChannelRow]
    room: Annotated[str | None, Meta(description="The room; null for all rooms.")]
    next: Annotated[str | None, Meta(description="Value of `after` for the next page; null at the end.")]


class Participant(msgspec.Struct, kw_only=True):
    """A member of a channel."""

    client_id: str
    client_type: str
    screen_name: str | None
    avatar: str | None
    joined_at: WireTime
    last_activity: WireTime | None


class InfoResult(msgspec.Struct, kw_only=True):
    """A channel's members, metadata and newest seq."""

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
    next: Annotated[
        int | str | None, Meta(description="Value of `before` or `after` for the next page; null at the end.")
    ]


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
