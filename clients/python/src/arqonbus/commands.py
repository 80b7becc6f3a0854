"""The bus's commands as methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NotRequired, TypedDict

from .answers import as_message
from .errors import RoomNotFound, ValidationFailed
from .messages import WHOLE, Message, Page, Position, Since, moment_of, parse_time, split_address, stream_named

#: The largest page of the server.
PAGE = 500


class Participant(TypedDict):
    """A member of a channel."""

    client_id: str
    client_type: str
    screen_name: str | None
    avatar: str | None
    joined_at: str
    last_activity: str


class ChannelInfo(TypedDict):
    """The result of ``channel_info``."""

    room: str
    channel: str
    participants: list[Participant]
    #: None where you may not learn it.
    participant_count: int | None
    metadata: dict[str, Any]
    epoch: str
    seq: int


class ChannelRow(TypedDict):
    """A row of ``list_channels``."""

    room: str
    channel: str
    #: None where you may not learn it.
    participants: int | None
    description: str
    created_at: str
    created_by: str
    type: str
    hardcoded: bool
    ephemeral: bool
    #: Seq of the newest message, which is also the number of all messages ever.
    messages: int
    last_activity: str | None
    #: The number of messages behind this client's mark, where it has one.
    unread: NotRequired[int]
    #: The rule of a work channel.
    work: NotRequired[dict[str, Any]]


class Joined(TypedDict):
    """The result of ``join_channel``."""

    room: str
    channel: str
    created: bool
    participants: int | None
    epoch: str
    seq: int
    recovered: bool | None
    #: Positions of the logs of the channel and its room: ``{address: {epoch, seq}}``.
    positions: dict[str, dict[str, Any]]
    #: The first message that is left, if not all messages were recovered.
    first_seq: NotRequired[int]


class Status(TypedDict):
    """The result of ``status``. ``next`` and ``next_channel`` are the cursors of the next page of clients and of channels."""

    server: dict[str, Any]
    stats: dict[str, int]
    channels: list[dict[str, Any]]
    next_channel: str | None
    clients: list[dict[str, Any]]
    next: str | None


class Stopped(TypedDict):
    """The result of ``stop_stream``. ``stopping`` means that its owner was asked to end it."""

    of: str
    state: str
    have: int
    stopping: bool


class Commands(ABC):
    """Every command as a method. All methods raise subclasses of ``ServerError``, ``ConnectionLost`` and ``TimeoutError``."""

    #: Whether the server can fold streamed messages in a history.
    _folds = True

    @abstractmethod
    async def _command(
        self, name: str, parameters: dict[str, Any] | None = None, *, repeat: bool = True, timeout: float | None = None
    ) -> dict[str, Any]:
        """Send a command and return its ``result``. ``repeat`` allows to send it again after a broken connection."""

    # --- the server ---------------------------------------------------------------------------------------------------

    async def status(self, *, limit: int = 100, after: str = "") -> Status:
        """Return the server, its figures, and the channels and clients that you may see (clients in pages)."""
        return await self._command("status", {"limit": limit, "after": after})  # type: ignore[return-value]

    async def clients(self) -> AsyncIterator[dict[str, Any]]:
        """Return every connected client, over all pages of ``status``."""
        after = ""
        while True:
            page = await self.status(limit=PAGE, after=after)
            for client in page["clients"]:
                yield client
            if not page["next"]:
                return
            after = page["next"]

    async def ping(self, echo: Any = None) -> dict[str, Any]:
        """Return ``{"pong": True, "timestamp": …, "echo": …}``."""
        return await self._command("ping", {} if echo is None else {"echo": echo})

    async def help(self, command: str | None = None) -> list[dict[str, Any]]:
        """Return the commands with their parameters, or one of them."""
        result = await self._command("help", {"command": command} if command else {})
        commands: list[dict[str, Any]] = result["commands"]
        return commands

    # --- channels -----------------------------------------------------------------------------------------------------

    async def create_channel(
        self,
        address: str,
        *,
        description: str = "",
        metadata: dict[str, Any] | None = None,
        ephemeral: bool = False,
        retention: dict[str, int] | None = None,
        type: str = "custom",
        work: Mapping[str, Any] | bool = False,
        presence: Literal["names", "counts", "none"] | None = None,
    ) -> dict[str, Any]:
        """Create a lasting channel (admins). ``retention`` is ``{"count": messages, "age": seconds}``.

        ``work`` makes it a work channel, whose messages are jobs: True, or ``{"lease": 30, "attempts": 5, "hold": 3600, "dead":
        "jobs:dead"}`` (seconds; any of them). ``presence`` says how much members learn of one another.

        Raises ``ChannelExists``, ``InvalidName``, ``Forbidden``.
        """
        parameters: dict[str, Any] = {"channel": address, "description": description, "type": type}
        if metadata:
            parameters["metadata"] = metadata
        if ephemeral:
            parameters["ephemeral"] = True
        if retention:
            parameters["retention"] = retention
        if presence is not None:
            parameters["presence"] = presence
        if work is not False:
            parameters["work"] = {} if work is True else dict(work)
        return await self._command("create_channel", parameters, repeat=False)

    async def delete_channel(self, address: str) -> dict[str, Any]:
        """Delete an empty channel (admins). Raises ``ChannelNotFound``, ``ChannelNotEmpty``, ``ChannelProtected``."""
        return await self._command("delete_channel", {"channel": address}, repeat=False)

    async def list_channels(self, room: str | None = None) -> list[ChannelRow]:
        """Return the channels of one room or of all rooms that you may see, over all pages."""
        where: dict[str, Any] = {"room": room} if room else {"all": True}
        rows: list[ChannelRow] = []
        after: str | None = ""
        while after is not None:
            page = await self._command("list_channels", {**where, "limit": PAGE, "after": after})
            rows += page["channels"]
            after = page["next"]
        return rows

    async def channel_info(self, address: str) -> ChannelInfo:
        """Return a channel's members, metadata and newest seq. Raises ``ChannelNotFound``."""
        return await self._command("channel_info", {"channel": address})  # type: ignore[return-value]

    # --- streamed messages --------------------------------------------------------------------------------------------

    async def stop_stream(self, of: str | Message) -> Stopped:
        """Request the stop of a streamed message, by its id. The owner ends it, or the server if the owner is gone.

        Raises ``StreamNotFound``, ``StreamEnded``, ``Forbidden``.
        """
        return await self._command("stop_stream", {"of": stream_named(of)})  # type: ignore[return-value]

    # --- history ------------------------------------------------------------------------------------------------------

    async def history_page(
        self,
        address: str,
        *,
        limit: int = 50,
        before: int | str | datetime | timedelta | None = None,
        after: int | str | datetime | timedelta | None = None,
        type: str | None = None,
        sender: str | None = None,
        fold: bool = True,
    ) -> Page:
        """Return one page, oldest first: the newest ``limit`` messages (before ``before``), or the first ones after ``after``.

        Both bounds are exclusive. Each is a seq, a time, a ``timedelta`` before now, or the ``next`` of an earlier page. That
        page must have used the same bound, or ``before`` if it had none. ``limit`` is at most 500. With ``fold`` a streamed
        message is one message with its text and state, and without it two: the opening and the end.
        """
        result = await self._history(address, limit, before, after, type, sender, fold=fold)
        return Page([_message(frame, fold=fold) for frame in result["messages"]], result.get("next"))

    async def history(
        self,
        address: str,
        *,
        since: Since = None,
        until: str | datetime | timedelta | None = None,
        type: str | None = None,
        sender: str | None = None,
        fold: bool = True,
    ) -> AsyncIterator[Message]:
        """Yield every message of a channel or a whole room (``"science"``) from ``since`` on, oldest first, over all pages.

        Without ``since`` it starts at the oldest message. It ends at ``until``, or at the newest message. ``fold`` is as in
        :meth:`history_page`.
        """
        room, channel = split_address(address)
        end = parse_time(moment_of(until)) if until is not None else None
        after: int | str | None = _after(since, by_time=channel == WHOLE)
        while after is not None:
            result = await self._history(f"{room}:{channel}", PAGE, None, after, type, sender, fold=fold)
            for frame in result["messages"]:
                message = _message(frame, fold=fold)
                if end is not None and message.timestamp is not None and message.timestamp >= end:
                    return
                yield message
            # A page before the last one may be shorter than the limit, or even empty.
            after = result["next"]

    async def _history(
        self,
        address: str,
        limit: int,
        before: int | str | datetime | timedelta | None,
        after: int | str | datetime | timedelta | None,
        type: str | None,
        sender: str | None,
        *,
        fold: bool,
    ) -> dict[str, Any]:
        room, channel = split_address(address)
        parameters: dict[str, Any] = {"channel": f"{room}:{channel}", "limit": limit}
        for name, value in (("before", before), ("after", after)):
            if value is not None:
                place = isinstance(value, str) and value.startswith(f"{name}:")
                parameters[name] = value if isinstance(value, int) or place else moment_of(value)
        if type:
            parameters["type"] = type
        if sender:
            parameters["sender"] = sender
        if not fold or not self._folds:
            return await self._command("history", parameters)
        try:
            return await self._command("history", {**parameters, "fold": True})
        except ValidationFailed as problem:
            if not any(isinstance(row, dict) and row.get("field") == "fold" for row in problem.details):
                raise
        self._folds = False  # An older server has no streamed messages.
        return await self._command("history", parameters)

    async def _history_frames(
        self, address: str, *, after: int, limit: int, fold: bool = False
    ) -> list[dict[str, Any]]:
        """Return the delivered frames after a seq. The list is empty if the room does not exist."""
        try:
            result = await self._history(address, limit, None, after, None, None, fold=fold)
        except RoomNotFound:
            return []
        frames: list[dict[str, Any]] = result["messages"]
        return frames


def _message(frame: dict[str, Any], *, fold: bool) -> Message:
    return as_message(frame) if fold else Message.of(frame)


def _after(since: Since, *, by_time: bool) -> int | str:
    if isinstance(since, Position):
        since = since.seq
    if isinstance(since, int):
        if by_time:
            raise ValueError("A whole room has no common seq. Give `since` as a time.")
        return since
    if since is None:
        return "1970-01-01T00:00:00.000Z" if by_time else 0
    return moment_of(since)
