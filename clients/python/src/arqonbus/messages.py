"""Received messages, positions, receipts and pages."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

SERVER = "arqonbus_server"
INBOX_ROOM = "pm"
WHOLE = "*"


class Position(NamedTuple):
    """A place in a channel's log: after the message ``seq`` of the log ``epoch``. Pass it to ``since`` to continue there."""

    seq: int
    epoch: str | None = None


#: The ``since`` that starts behind this client's mark.
MARK = "mark"

#: Where to start: a position, a seq, a time (UTC if it has no zone), an ISO time, a period before now, or ``"mark"``.
Since = Position | int | str | datetime | timedelta | None


class _Received:
    """What a message knows and its copies do not: the bus that received it."""

    __slots__ = ("_bus", "_folded")
    _bus: Any
    _folded: Any

    @property
    def bus(self) -> Any:
        """The bus that received this message. None for a message of a page of history, and for a copy."""
        return getattr(self, "_bus", None)

    def received(self, bus: Any) -> None:
        """Note the bus that received this message."""
        object.__setattr__(self, "_bus", bus)

    def fold(self, folded: Any) -> None:
        """Note how the message stands now."""
        object.__setattr__(self, "_folded", folded)


@dataclass(frozen=True, slots=True)
class Message(_Received):
    """One received message."""

    id: str
    type: str
    room: str
    channel: str
    #: The sender's client id, set by the server.
    sender: str
    #: The time of the server.
    timestamp: datetime | None
    #: The place in the channel's log. None on ephemeral channels and for notices of the server.
    seq: int | None
    payload: dict[str, Any]
    #: The sender's ``message``, which is nearly always a text.
    content: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    #: Whether messages before this one are lost: deleted by the retention, or with their log.
    after_gap: bool = False
    #: The received frame.
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The text of the message; empty if it has none."""
        if isinstance(self.content, str):
            return self.content
        inner = self.payload.get("message")
        return inner if isinstance(inner, str) else ""

    @property
    def address(self) -> str:
        """The address ``room:channel``."""
        return f"{self.room}:{self.channel}"

    @property
    def event(self) -> str | None:
        """The ``payload.event`` of a notice of the server, such as ``client_joined``."""
        event = self.payload.get("event")
        return event if self.type == "system" and isinstance(event, str) else None

    @property
    def unreadable(self) -> bool:
        """Whether nobody can read the content of this message any more. Its ``payload`` is empty."""
        return self.raw.get("unreadable") is True

    @property
    def private(self) -> bool:
        """Whether the message came through an inbox."""
        return self.room == INBOX_ROOM

    @property
    def steer(self) -> str | None:
        """The id of the streamed message that this message wants to steer, or None."""
        steer = self.raw.get("steer")
        return steer if isinstance(steer, str) else None

    @property
    def ask(self) -> dict[str, Any] | None:
        """The ``timeout`` and ``durable`` of a question. None for all other messages."""
        ask = self.raw.get("ask")
        return ask if isinstance(ask, dict) and isinstance(self.raw.get("reply_to"), str) else None

    @property
    def reply_to(self) -> str | None:
        """The client id of who asked a question, or None."""
        return self.raw["reply_to"] if self.ask is not None else None

    @property
    def to_message(self) -> str | None:
        """The id of the question that this message replies to, or None."""
        return _text(self.raw.get("to_message")) if self.type == "reply" else None

    @property
    def correlation(self) -> str | None:
        """What joins a question and its reply, or None."""
        return _text(self.raw.get("correlation"))

    @property
    def error(self) -> str | None:
        """The error that a reply has instead of an answer, or None."""
        return _text(self.raw.get("error")) if self.type == "reply" else None

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context of who published the message, or None."""
        return _text(self.raw.get("traceparent"))

    @property
    def state(self) -> str | None:
        """None. A streamed message (:class:`arqonbus.Answer`) has a state, and its text grows."""
        return None

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The parts of a streamed message in the mode ``parts``. Other messages have none."""
        return []

    async def deltas(self) -> AsyncIterator[Any]:
        """Yield the text once. A streamed message yields its pieces while they arrive."""
        if self.text:
            yield self.text

    async def ended(self) -> Self:
        """Return the message. A streamed message waits for its end."""
        return self

    async def mark(self) -> None:
        """Move this client's mark of the log up to this message. Raises ``RuntimeError`` for a message without a place.

        Several calls at the same time cost one mark. The next ``subscribe(address, since="mark")`` begins behind it.
        """
        if self.bus is None or self.seq is None:
            raise RuntimeError("This message has no place in a log that can be marked.")
        await self.bus.mark(self.address, self.seq)

    async def reply(
        self,
        payload: Mapping[str, Any] | None = None,
        *,
        message: str | None = None,
        error: str | None = None,
    ) -> None:
        """Reply to this question. See :meth:`arqonbus.Bus.reply`. Raises ``RuntimeError`` for a message that asks nothing."""
        if self.bus is None or self.ask is None:
            raise RuntimeError("This message is no question.")
        await self.bus.reply(self, payload, message=message, error=error)

    @property
    def amends(self) -> str | None:
        """The id of the message that this amendment changes, or None. ``raw["do"]`` says how."""
        return _text(self.raw.get("of")) if self.type == "amend" and "of_seq" in self.raw else None

    @property
    def edited(self) -> dict[str, Any] | None:
        """The ``seq``, ``at`` and ``by`` of the newest edit, or None."""
        return _object(self.raw.get("edited"))

    @property
    def deleted(self) -> dict[str, Any] | None:
        """The ``seq``, ``at`` and ``by`` of the deletion, or None."""
        return _object(self.raw.get("deleted"))

    @property
    def reactions(self) -> dict[str, list[str]]:
        """The client ids of each reaction."""
        return _object(self.raw.get("reactions")) or {}

    @property
    def erased(self) -> bool:
        """Whether the content was erased for good."""
        return self.raw.get("erased") is True

    @property
    def folded(self) -> Self | None:
        """The message with its amendments up to here, or for an amendment the message that it changes.

        A subscription with ``fold`` knows it. It is None for an amendment of a message that the subscription did not get.
        Elsewhere it is the message itself.
        """
        return getattr(self, "_folded", self if self.amends is None else None)

    async def edit(self, text: str | None = None, *, payload: Mapping[str, Any] | None = None) -> Receipt:
        """Replace the text, the payload, or both. See :meth:`arqonbus.Bus.edit`. Raises ``RuntimeError`` without a bus."""
        return await self._own_bus().edit(self, text, payload=payload)  # type: ignore[no-any-return]

    async def delete(self) -> Receipt:
        """Delete this message for its readers. See :meth:`arqonbus.Bus.delete`."""
        return await self._own_bus().delete(self)  # type: ignore[no-any-return]

    async def react(self, reaction: str) -> Receipt:
        """React to this message. See :meth:`arqonbus.Bus.react`."""
        return await self._own_bus().react(self, reaction)  # type: ignore[no-any-return]

    async def unreact(self, reaction: str) -> Receipt:
        """Take the own reaction back. See :meth:`arqonbus.Bus.unreact`."""
        return await self._own_bus().unreact(self, reaction)  # type: ignore[no-any-return]

    def _own_bus(self) -> Any:
        if self.bus is None:
            raise RuntimeError("This message was not received by a bus. Use the methods of the bus.")
        return self.bus

    @classmethod
    def of(cls, frame: dict[str, Any], *, after_gap: bool = False, bus: Any = None) -> Self:
        """Build a message from a delivered frame."""
        payload, metadata = frame.get("payload"), frame.get("metadata")
        seq = frame.get("seq")
        message = cls(
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
        if bus is not None:
            message.received(bus)
        return message


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server's acknowledgement of a durable message: its id and place.

    ``duplicate``: this id was published before. ``unproven``: absent targets of a private message. They receive it only if they
    prove their identity within a day, by their resume token (see ``connect(identity=…)``). ``steered``: whether the steered
    stream was open, so that its owner gets the message. None for a message that steers nothing. ``kept``: False if a gate of the
    project swallowed the message, which nobody gets.
    """

    id: str
    room: str
    channel: str
    seq: int | None
    duplicate: bool = False
    unproven: tuple[str, ...] = ()
    steered: bool | None = None
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """One page of history, oldest first. ``next`` is the cursor of the next page, or None at the end."""

    messages: list[Message]
    next: int | str | None


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def parse_time(value: Any) -> datetime | None:
    """Parse an ISO time of the wire. Returns None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def wire_time(moment: datetime) -> str:
    """Format a time for the wire: UTC with milliseconds and Z."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_of(since: str | datetime | timedelta) -> str:
    """Format a ``since`` that is a time. Raises ``ValueError`` for a text that is not a time."""
    if isinstance(since, timedelta):
        return wire_time(datetime.now(UTC) - since)
    if isinstance(since, datetime):
        return wire_time(since)
    moment = parse_time(since)
    if moment is None:
        raise ValueError(f"{since!r} is not an ISO time such as 2026-01-31T12:00:00Z.")
    return wire_time(moment)


def split_address(address: str) -> tuple[str, str]:
    """Split ``room:channel`` into a pair. A room alone means ``room:*``. Raises ``ValueError`` for anything else."""
    room, _, channel = address.partition(":")
    if not room or ":" in channel:
        raise ValueError(
            f"{address!r} is not an address. An address looks like room:channel, for example science:explore."
        )
    return room, channel or WHOLE


def stream_named(of: str | Message, name: str = "of") -> str:
    """Return the id of a streamed message. Raises ``TypeError`` and ``ValueError``, which call the argument ``name``."""
    uid = of if isinstance(of, str) else getattr(of, "id", None)
    if not isinstance(uid, str):
        raise TypeError(f"`{name}` must be a streamed message or its id, and not {type(of).__name__}.")
    if not uid:
        raise ValueError(f"`{name}` must be the id of a streamed message, and it is empty.")
    return uid


def new_id() -> str:
    """Return a new message id that both dialects accept."""
    return f"arq_{uuid.uuid4().hex}"
