"""What travels: messages as they come, frames as they go (contract §2)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

SERVER = "arqonbus_server"
INBOX_ROOM = "pm"
WHOLE = "*"


class Position(NamedTuple):
    """A place in a channel's log: after the message ``seq`` of the log ``epoch``. Give it to ``since`` to go on from there."""

    seq: int
    epoch: str | None = None


#: Where to begin: a position, a seq, a time (naive: UTC), an ISO time, or how long ago.
Since = Position | int | str | datetime | timedelta | None


@dataclass(frozen=True, slots=True)
class Message:
    """One delivered message."""

    id: str
    type: str
    room: str
    channel: str
    #: The sender's true client id.
    sender: str
    #: The server's time.
    timestamp: datetime | None
    #: The place in the channel's log; None on ephemeral channels and for notices of the server.
    seq: int | None
    payload: dict[str, Any]
    #: What the sender gave as ``message``: nearly always a text.
    content: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    #: Messages before this one are lost to this reader: pruned, or their log was rebuilt.
    after_gap: bool = False
    #: The frame as it came.
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The message's text; empty when it has none."""
        if isinstance(self.content, str):
            return self.content
        inner = self.payload.get("message")
        return inner if isinstance(inner, str) else ""

    @property
    def address(self) -> str:
        """``room:channel``."""
        return f"{self.room}:{self.channel}"

    @property
    def event(self) -> str | None:
        """``payload.event`` of the server's notices, such as ``client_joined``."""
        event = self.payload.get("event")
        return event if self.type == "system" and isinstance(event, str) else None

    @property
    def unreadable(self) -> bool:
        """Whether there was a message here whose content nobody can read any more; ``payload`` is empty."""
        return self.raw.get("unreadable") is True

    @property
    def private(self) -> bool:
        """Whether it came through an inbox."""
        return self.room == INBOX_ROOM

    @classmethod
    def of(cls, frame: dict[str, Any], *, after_gap: bool = False) -> Message:
        """The message of a delivered frame."""
        payload, metadata = frame.get("payload"), frame.get("metadata")
        seq = frame.get("seq")
        return cls(
            id=str(frame.get("id") or ""),
            type=str(frame.get("type") or "event"),
            room=str(frame.get("room") or ""),
            channel=str(frame.get("channel") or ""),
            sender=str(frame.get("from") or ""),
            timestamp=parse_time(frame.get("timestamp")),
            seq=seq if isinstance(seq, int) else None,
            payload=payload if isinstance(payload, dict) else {},
            content=frame.get("message"),
            metadata=metadata if isinstance(metadata, dict) else {},
            after_gap=after_gap,
            raw=frame,
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server's word that a message is durable: its id and place. ``duplicate``: this id had been published before.

    ``unproven``: the targets of a private message that are away, and get it only if they prove who they are (by their resume
    token, see ``connect(identity=…)``) within a day.
    """

    id: str
    room: str
    channel: str
    seq: int | None
    duplicate: bool = False
    unproven: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """One page of history, oldest first; ``next`` is the cursor of the following page, None at the end."""

    messages: list[Message]
    next: int | str | None


def parse_time(value: Any) -> datetime | None:
    """An ISO time as the wire has it; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def wire_time(moment: datetime) -> str:
    """A time as the wire has it: UTC with milliseconds and Z."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_of(since: str | datetime | timedelta) -> str:
    """A ``since`` that is a time, as the wire has it. Raises ``ValueError`` for a text that is none."""
    if isinstance(since, timedelta):
        return wire_time(datetime.now(UTC) - since)
    if isinstance(since, datetime):
        return wire_time(since)
    moment = parse_time(since)
    if moment is None:
        raise ValueError(f"{since!r} is not an ISO time, such as 2026-01-31T12:00:00Z.")
    return wire_time(moment)


def split_address(address: str) -> tuple[str, str]:
    """``room:channel`` as a pair; a room alone is the whole room, ``room:*``. Raises ``ValueError`` for anything else."""
    room, _, channel = address.partition(":")
    if not room or ":" in channel:
        raise ValueError(
            f"{address!r} is not an address. An address looks like room:channel, for example science:explore."
        )
    return room, channel or WHOLE


def new_id() -> str:
    """A message id in the form that both dialects take."""
    return f"arq_{uuid.uuid4().hex}"
