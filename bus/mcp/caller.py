"""Who calls a tool, and what a tool gives back: a result, or something to wait for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from django.db import transaction
from django.http import HttpRequest

from ..api.throttling import spend
from ..api.views.messages import read_frames
from ..api.waiting import Answer, Wait, Waiter
from ..auth.permissions import Actor
from ..directory import clients as client_directory
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Inbound
from ..protocol.names import INBOX_ROOM, Address, parse_address
from ..protocol.routing import invalid_name

#: The header, and the query parameter, in which an agent names its client_id.
CLIENT_HEADER, CLIENT_QUERY = "Arqonbus-Client-Id", "client_id"
INBOX = "inbox"

Result = dict[str, Any]


class Later(msgspec.Struct, frozen=True):
    """A result that may have to be waited for (:func:`bus.api.waiting.wait_for`). None means: nothing yet."""

    seconds: float
    look: Callable[[], Result | None]
    wait: Callable[[Waiter, float], Awaitable[Result | None]]
    nothing: Callable[[], Result]

    def wait_with(self, told: Callable[[Result], Answer]) -> Wait:
        """The wait, whose result ``told`` turns into the answer."""

        async def wait(waiter: Waiter, seconds: float) -> Answer | None:
            found = await self.wait(waiter, seconds)
            return None if found is None else told(found)

        return wait


class Caller(msgspec.Struct):
    """The caller of a tool. ``actor`` has the client id under which it acts. ``trace`` is the trace context of the request."""

    actor: Actor
    trace: dict[str, str]

    def frame(self, **keys: Any) -> Inbound:
        """A message of the caller, read by the grammar of the socket. Keys that are None are left out.

        Raises ``BusError`` as for a frame of a socket, and RATE_LIMITED.
        """
        given = {key: value for key, value in keys.items() if value is not None}
        body = msgspec.json.encode(given | self.trace)
        spend(self.actor, 0, len(body))
        return read_frames(body)[0][0]

    def address(self, text: str) -> Address:
        """The address that ``text`` names.

        Raises ``BusError`` INVALID_NAME, or FORBIDDEN for the inbox of an anonymous caller.
        """
        if text == INBOX:
            if self.actor.anonymous:
                raise BusError(ErrorCode.FORBIDDEN, "Only a client with an access token has an inbox here.")
            return Address(INBOX_ROOM, self.actor.client_id)
        found = parse_address(text)
        if found is None:
            raise invalid_name("address", text, f"{text[:80]!r} is not an address of the form room:channel.")
        return found


def caller_of(request: HttpRequest, actor: Actor, trace: dict[str, str], *, acts: bool) -> Caller:
    """The caller of a request. One that ``acts`` takes its client id, so that others can reach it.

    Raises ``BusError`` INVALID_NAME, FORBIDDEN, CLIENT_ID_IN_USE or LIMIT_REACHED.
    """
    wanted = request.headers.get(CLIENT_HEADER) or request.GET.get(CLIENT_QUERY) or None
    speaker, new = client_directory.speaker(actor, wanted)
    if new and acts:
        with transaction.atomic():
            client_directory.take_id(speaker)
    return Caller(speaker, trace)


def wrong(argument: str, message: str) -> BusError:
    """The error for a wrong argument of a tool."""
    return BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": argument, "message": message}])


def shown(frame: bytes | dict[str, Any]) -> Result:
    """A message as a model gets it: what matters of its frame."""
    found: dict[str, Any] = msgspec.json.decode(frame) if isinstance(frame, bytes) else frame
    payload, text, stream = found.get("payload"), found.get("message"), found.get("stream")
    if not isinstance(text, str):
        inner = payload.get("message") if isinstance(payload, dict) else None
        text = inner if isinstance(inner, str) else ""
    shape = {
        "id": found.get("id"),
        "type": found.get("type"),
        "address": f"{found.get('room')}:{found.get('channel')}",
        "from": found.get("from"),
        "timestamp": found.get("timestamp"),
        "seq": found.get("seq"),
        "text": text,
        "payload": payload,
    }
    if isinstance(stream, dict) and "state" in stream:
        shape["state"] = stream["state"]
    for key in ("metadata", "ask", "reply_to", "correlation", "to_message", "error", "steer"):
        if found.get(key):
            shape[key] = found[key]
    return shape
