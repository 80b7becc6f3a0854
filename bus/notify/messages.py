"""The notifications, and their form on the way to other processes."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from ..protocol.amending import ErasedMessage
from ..protocol.errors import ErrorCode
from .seal import seal, unseal

logger = logging.getLogger("arqonbus.broker")

#: The most bytes of frames in one message of the layer; only a single ephemeral frame may be larger. The layer copies a message
#: for every process. A receiver reads a frame that was left out from the log.
INLINE_BYTES = 256 * 1024

#: What a message takes in a notification besides its frame, in bytes.
_ROW_BYTES = 250


class CommittedMessage(NamedTuple):
    """A message that is in the log. A receiver reads an empty ``frame`` from the log."""

    channel_id: int
    room: str
    channel: str
    epoch: str
    seq: int
    frame: bytes


class EphemeralFrame(NamedTuple):
    """A message of an ephemeral channel, which no log has.

    ``key`` recognises a repeat (``log.Passed``); it is empty where the sender gave no id.
    """

    channel_id: int
    frame: bytes
    key: str = ""


class Published(msgspec.Struct, tag="p", array_like=True):
    """Messages were committed."""

    messages: list[CommittedMessage]


class EphemeralPublished(msgspec.Struct, tag="f", array_like=True):
    """Messages were published on ephemeral channels."""

    frames: list[EphemeralFrame]


class PresenceNotice(msgspec.Struct, tag="n", array_like=True):
    """A frame about presence, for those members of a channel who may see its members."""

    channel_id: int
    frame: bytes


class ClientUpdated(msgspec.Struct, tag="cu", array_like=True):
    """A member of a channel has another status. It is for one node, which gathers such notices for all processes.

    ``card`` is what others may know of the client, and ``status`` is None for one that has no status any more.
    """

    channel_id: int
    room: str
    channel: str
    participants: int
    card: dict[str, Any]
    status: dict[str, Any] | None


class ChannelChanged(msgspec.Struct, tag="c", array_like=True):
    """A channel changed, or a whole room where ``channel`` is empty; ``deleted`` is the id of a log that was deleted."""

    room: str
    channel: str
    deleted: int = 0


class AccessChanged(msgspec.Struct, tag="a", array_like=True):
    """Permissions changed: the connections that ``subject`` concerns are looked up again (``bus.services.rights``)."""

    subject: str
    id: int


class Dismiss(msgspec.Struct, tag="d", array_like=True):
    """A client's connection has to be closed. Without a ``connection_id`` it is the client's current one.

    With ``before`` (``services.ownership.Order``) this connection and all older ones are closed, but none that took the id later.
    """

    client_id: str
    connection_id: str
    close_code: int
    code: ErrorCode
    message: str
    before: tuple[int, int] | None = None


class PartRow(NamedTuple):
    """A part of a streamed message in a channel, in its ``attempt``. A receiver reads an empty ``frame`` from the database."""

    channel_id: int
    of: str
    attempt: int
    n: int
    frame: bytes
    #: The client id of the inbox; empty for a channel.
    inbox: str = ""


class StreamParts(msgspec.Struct, tag="sp", array_like=True):
    """Parts of streamed messages were committed."""

    parts: list[PartRow]


class StreamSignal(msgspec.Struct, tag="ss", array_like=True):
    """Something happened to a streamed message. ``of`` and ``id`` are its uid and the id of its row.

    ``event`` is ``opened``, or ``reset`` after an adoption: for the members. ``stop`` and ``steer`` are for the owner, who is
    ``client_id`` with ``principal``. ``frame`` is the notice to the owner, and ``steer_seq`` the seq of the steer. ``inbox`` is
    the client id of an inbox; it is empty for a channel.
    """

    event: str
    of: str
    channel_id: int
    id: int
    seq: int
    mode: str
    attempt: int
    have: int
    client_id: str
    principal: str
    inbox: str = ""
    frame: bytes = b""
    steer_seq: int = 0

    @property
    def for_owner(self) -> bool:
        """Whether the owner is told, wherever it is connected. Else the members are."""
        return self.event in ("stop", "steer")


class WorkReady(msgspec.Struct, tag="wr", array_like=True):
    """Jobs became ready. Each row is the id of a work channel, and how many jobs of it became ready."""

    channels: list[tuple[int, int]]


class WorkChange(NamedTuple):
    """What happened to a job of a channel: ``claimed``, ``done``, ``returned``, ``dead``, ``discarded`` or ``retried``.

    ``by`` is the client id of who did it, and ``at`` the time as members read it. ``seq`` is that of the job's message.
    """

    channel_id: int
    what: str
    seq: int
    attempt: int
    by: str | None
    at: str


class WorkChanged(msgspec.Struct, tag="wc", array_like=True):
    """Jobs changed. The members of their channels are told of it."""

    changes: list[WorkChange]


class EndedQuestion(NamedTuple):
    """A question that nobody will answer: its row, its asker, and the error frame for the asker."""

    id: int
    client_id: str
    principal: str
    frame: bytes


class QuestionsEnded(msgspec.Struct, tag="qe", array_like=True):
    """Nobody answered these questions in time, or their channel was deleted."""

    questions: list[EndedQuestion]


class DecisionsEnded(msgspec.Struct, tag="de", array_like=True):
    """Decisions ended: their rows. Whoever waits for one looks at it."""

    decisions: list[int]


class Erased(msgspec.Struct, tag="er", array_like=True):
    """The content of messages of a channel was erased, or of the inbox of ``inbox``. No process may remember it."""

    channel_id: int
    inbox: str
    messages: list[ErasedMessage]


Notification = (
    Published
    | EphemeralPublished
    | PresenceNotice
    | ClientUpdated
    | ChannelChanged
    | AccessChanged
    | Dismiss
    | StreamParts
    | StreamSignal
    | WorkReady
    | WorkChanged
    | QuestionsEnded
    | DecisionsEnded
    | Erased
)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Notification])
_raw_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_single_decoder = msgspec.msgpack.Decoder(Notification)


def unrecoverable_frames(notification: Notification) -> int:
    """The number of frames in the notification that are in no log."""
    if isinstance(notification, EphemeralPublished):
        return len(notification.frames)
    return 1 if isinstance(notification, PresenceNotice) else 0


def size_of(notification: Notification) -> int:
    """About the bytes that a notification takes while it waits."""
    if isinstance(notification, Published):
        return sum(_ROW_BYTES + len(message.frame) for message in notification.messages)
    if isinstance(notification, EphemeralPublished):
        return sum(_ROW_BYTES + len(frame.frame) for frame in notification.frames)
    if isinstance(notification, StreamParts):
        return sum(_ROW_BYTES + len(row.frame) for row in notification.parts)
    if isinstance(notification, WorkChanged):
        return _ROW_BYTES * len(notification.changes)
    if isinstance(notification, Erased):
        return _ROW_BYTES * len(notification.messages)
    if isinstance(notification, QuestionsEnded):
        return sum(_ROW_BYTES + len(question.frame) for question in notification.questions)
    return _ROW_BYTES + (len(notification.frame) if isinstance(notification, PresenceNotice | StreamSignal) else 0)


def to_layer(notifications: list[Notification], sender: str) -> dict[str, Any]:
    """The layer's message with these notifications; frames of the log that make it too long are left out."""
    size = 0
    for notification in notifications:
        rows: list[Any] = []
        if isinstance(notification, Published):
            rows = notification.messages
        elif isinstance(notification, StreamParts):
            rows = notification.parts
        elif isinstance(notification, StreamSignal):
            size += len(notification.frame)
            if size > INLINE_BYTES:
                notification.frame = b""
        for position, row in enumerate(rows):
            size += len(row.frame)
            if size > INLINE_BYTES:
                rows[position] = row._replace(frame=b"")
    return {"type": "bus.notification", "sender": sender, "data": seal(_encoder.encode(notifications))}


def from_layer(message: object) -> list[Notification] | None:
    """The notifications of a layer's message; None for a message without the seal of our ``SECRET_KEY``.

    A notification of a kind that this version does not know is left out.
    """
    data = unseal(message.get("data")) if isinstance(message, dict) else None
    if data is None:
        return None
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        pass
    known: list[Notification] = []
    try:
        for raw in _raw_decoder.decode(data):
            with suppress(msgspec.DecodeError):
                known.append(_single_decoder.decode(raw))
    except msgspec.DecodeError:
        logger.warning("ignored a notification of another version", extra={"event": "bell_unknown"})
    return known
