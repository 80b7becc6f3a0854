"""The registration of a client, from a frame or the query string, as plain values."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .errors import ErrorCode
from .faults import Faults, FrameError, shortened
from .names import CLIENT_ID_RULE, is_client_id, is_made_up, is_reserved
from .values import holds_nul, seq_of

#: The value of ``since`` for a client that begins at its own mark.
MARK = "mark"


class Resume(msgspec.Struct, frozen=True):
    """The ``resume`` of a client that comes back: its token, and its position in each log by address."""

    token: str | None = None
    positions: dict[str, dict[str, Any]] = {}


class CardFields(msgspec.Struct):
    """What a client says of itself. Other keys of its card are ignored."""

    name: Annotated[str, Meta(max_length=128)] = ""
    description: Annotated[str, Meta(max_length=500)] = ""
    skills: Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=32)] = []


class Registration(msgspec.Struct):
    """The identity that a client requests."""

    client_id: str | None = None
    client_type: str = "app"
    room: str | None = None
    channel: str | None = None
    screen_name: str | None = None
    avatar: str | None = None
    personality: dict[str, Any] = {}
    token: str | None = None
    since: int | str | None = None
    epoch: str | None = None
    resume: Resume | None = None
    card: dict[str, Any] | None = None


def registration_from(fields: dict[str, Any], faults: Faults | None = None) -> Registration:
    """The registration in the fields of a frame or of the query string.

    ``faults`` collects the faults. Without it, the function raises :class:`FrameError` VALIDATION_ERROR with all of them.
    """
    own = faults or Faults()
    result = Registration()
    client_id = fields.get("client_id") or None
    if client_id is not None and not is_client_id(client_id):
        own.add("client_id", f"`client_id` must be {CLIENT_ID_RULE}")
    elif client_id is not None and is_reserved(client_id) and not is_made_up(client_id):
        own.add("client_id", f"`client_id` {client_id} is reserved for the server.")
    else:
        result.client_id = client_id
    for field, longest in (("client_type", 64), ("screen_name", 128), ("avatar", 2048)):
        value = fields.get(field)
        if value is None or value == "":
            continue
        if not isinstance(value, str) or len(value) > longest or "\x00" in value:
            own.add(field, f"`{field}` must be a text of at most {longest} characters.")
        else:
            setattr(result, field, value)
    # A token may be as long as in a header (``bus.auth.jwts``).
    for field, longest in (("room", 4096), ("channel", 4096), ("token", 8192), ("epoch", 4096)):
        value = fields.get(field)
        if field == "token" and not value:
            value = fields.get("ticket")
        if value is None or value == "":
            continue
        if not isinstance(value, str) or len(value) > longest:
            own.add(field, f"`{field}` must be a string of at most {longest} characters.")
        else:
            setattr(result, field, value)
    since = fields.get("since")
    if since is not None and since != "":
        since = seq_of(since)
        if isinstance(since, bool) or not isinstance(since, (int, str)) or (isinstance(since, int) and since < 0):
            own.add("since", "`since` must be a seq, an ISO time, or `mark`.")
        else:
            result.since = since
    personality = fields.get("personality")
    if holds_nul(personality):
        own.add("personality", "`personality` contains a NUL character.")
    elif isinstance(personality, dict):
        result.personality = personality
    elif personality is not None:
        own.add("personality", "`personality` must be an object.")
    result.resume = _resume(fields, own)
    result.card = _card(fields, own)
    if own.items and faults is None:
        raise FrameError(ErrorCode.VALIDATION_ERROR, details=own.items)
    return result


def _card(fields: dict[str, Any], faults: Faults) -> dict[str, Any] | None:
    given = fields.get("card")
    if given is None:
        return None
    if holds_nul(given):
        faults.add("card", "`card` contains a NUL character.")
        return None
    try:
        card: dict[str, Any] = msgspec.to_builtins(msgspec.convert(given, CardFields))
    except msgspec.ValidationError as problem:
        faults.add("card", shortened(problem))
        return None
    return card


def _resume(fields: dict[str, Any], faults: Faults) -> Resume | None:
    given = fields.get("resume")
    if given is None:
        token = fields.get("resume_token")
        return Resume(token=token) if isinstance(token, str) and token else None
    try:
        resume = msgspec.convert(given, Resume)
    except msgspec.ValidationError as problem:
        faults.add("resume", shortened(problem))
        return None
    for address, position in resume.positions.items():
        seq = position.get("seq")
        if not isinstance(seq, int) or isinstance(seq, bool) or seq < 0:
            faults.add("resume", f"The position of {address[:130]!r} needs a `seq`, which is a whole number.")
    return resume
