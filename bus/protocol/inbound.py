"""The canonical frame: the request of a client, independent of the dialect."""

from __future__ import annotations

from typing import Any

import msgspec

from .registration import Registration
from .routing import Route

#: The kinds of an :class:`Inbound`. Clients choose the types of their events, but there are only these kinds.
KIND_PUBLISH, KIND_PRIVATE, KIND_COMMAND, KIND_TELEMETRY, KIND_REGISTER = (
    "publish",
    "private",
    "command",
    "telemetry",
    "register",
)
#: The fault of a payload that is no object, for every interface.
PAYLOAD_RULE = "`payload` must be an object. Put a text into `message`."


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
    #: The route of a message. ``bus.publishing.plan`` sets it.
    route: Route | None = None


def copies_of(inbound: Inbound) -> int:
    """The number of copies of a frame in the logs: a private message has one for each target."""
    return max(1, len(inbound.to))


def size_of(inbound: Inbound) -> int:
    """The bytes of payload, message and metadata in one copy of a frame."""
    return sum(len(part) for part in (inbound.payload, inbound.message, inbound.metadata) if part is not None)
