"""The canonical frame: the request of a client, independent of the dialect."""

from __future__ import annotations

from typing import Any

import msgspec

from .registration import Registration
from .routing import Route

#: The kinds of an :class:`Inbound`. Clients choose the types of their events, but there are only these kinds.
KIND_PUBLISH, KIND_PRIVATE, KIND_COMMAND, KIND_TELEMETRY, KIND_REGISTER, KIND_APPEND, KIND_REPLY, KIND_AMEND = (
    "publish",
    "private",
    "command",
    "telemetry",
    "register",
    "append",
    "reply",
    "amend",
)
#: The modes of a streamed message: it grows by texts, or by JSON objects.
MODE_TEXT, MODE_PARTS = MODES = ("text", "parts")
#: The states in which a streamed message ends.
COMPLETE, ABORTED, STOPPED = ENDS = ("complete", "aborted", "stopped")
#: The fault of a payload that is no object, for every interface.
PAYLOAD_RULE = "`payload` must be an object. Put a text into `message`."


class Append(msgspec.Struct, frozen=True):
    """What an ``append`` frame says about the streamed message ``of``.

    ``n`` is the number of the part. ``mode`` is ``text`` or ``parts``, or empty for an end without a part. ``data`` is the
    part: the JSON of a text without its quotes, or the JSON of an object. ``end`` is the state in which the message ends, and
    ``payload`` the JSON object of the end. ``took`` are the ids of steers that the owner has taken. ``token`` proves an
    owner that has adopted the message.
    """

    of: str
    n: int
    mode: str = ""
    data: bytes = b""
    end: str | None = None
    payload: bytes | None = None
    took: tuple[str, ...] = ()
    token: str | None = None


class Ask(msgspec.Struct, frozen=True):
    """What makes a message a question.

    ``timeout`` is how many seconds its asker waits. A ``durable`` question needs no connected responder. ``correlation`` comes
    back with the reply; None stands for the id of the message.
    """

    timeout: float
    durable: bool = False
    correlation: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """What makes a message a reply.

    ``to_message`` is the id of the question. ``asker`` is who asked it, where the responder says so: two askers may have chosen
    the same id. ``error`` says why there is no answer.
    """

    to_message: str
    asker: str | None = None
    error: str | None = None


class Asked(msgspec.Struct, frozen=True):
    """The question that a reply answers, as its row has it: ``id`` is the row, and ``uid`` the id of the message.

    ``asker`` is the client that gets the reply. ``trace`` has the keys of the question's trace context.
    """

    id: int
    uid: str
    asker: str
    correlation: str
    trace: bytes = b""


class Amend(msgspec.Struct, frozen=True):
    """What makes a message an amendment of the message with the id ``of``, whose seq is ``of_seq`` where the sender says it.

    ``do`` is ``edit``, ``delete``, ``react`` or ``unreact``. ``edits`` are the keys that an edit gives.
    """

    of: str
    do: str
    of_seq: int | None = None
    reaction: str = ""
    edits: tuple[str, ...] = ()


class Amended(msgspec.Struct, frozen=True):
    """The message that an amendment changes, as the log has it. ``others`` says that it is not the sender's own one."""

    seq: int
    others: bool = False


class Inbound(msgspec.Struct):
    """One frame in canonical form. ``payload``, ``message`` and ``metadata`` are JSON texts as the sender wrote them."""

    kind: str
    type: str
    id: str | None = None
    room: str | None = None
    channel: str | None = None
    to: list[str] = []
    payload: bytes | None = None
    message: bytes | None = None
    metadata: bytes | None = None
    client_timestamp: str | None = None
    echo: bool = False
    ack: bool = False
    command: str = ""
    parameters: dict[str, Any] = {}
    hints: dict[str, Any] = {}
    event_type: bytes | None = None
    source: bytes | None = None
    registration: Registration | None = None
    #: The mode of the stream that a message opens. None for a message that opens none.
    stream: str | None = None
    #: The id of the stream that a message steers.
    steer: str | None = None
    #: What an append says.
    append: Append | None = None
    #: What makes a message a question.
    ask: Ask | None = None
    #: What makes a message a reply.
    reply: Reply | None = None
    #: The question that a reply answers. ``bus.directory.questions`` finds it.
    asked: Asked | None = None
    #: What makes a message an amendment.
    amend: Amend | None = None
    #: The message that an amendment changes. ``bus.directory.messages`` finds it.
    amended: Amended | None = None
    #: The JSON keys of the trace context, each after a comma; empty for none.
    trace: bytes = b""
    #: When a job of a work channel is due, as its sender wrote it: ISO text, or the JSON of a value that is no text.
    deliver_at: str | None = None
    #: The route of a message. ``bus.publishing.plan`` sets it.
    route: Route | None = None


def copies_of(inbound: Inbound) -> int:
    """The number of copies of a frame in the logs: a private message has one for each target."""
    return max(1, len(inbound.to))


def size_of(inbound: Inbound) -> int:
    """The bytes of payload, message and metadata in one copy of a frame, or of the part of an append."""
    if inbound.append is not None:
        return len(inbound.append.data) + len(inbound.append.payload or b"")
    return sum(len(part) for part in (inbound.payload, inbound.message, inbound.metadata) if part is not None)
