"""Translate both dialects into one canonical frame.

A frame without ``version`` is v0, a frame with it is v1. Both become :class:`Inbound` here. No other module knows dialects.
The frame is parsed once, into raw values. ``payload``, ``message`` and ``metadata`` keep the bytes that the sender wrote.
"""

from __future__ import annotations

import msgspec

from ..version import PROTOCOL
from .amending import is_amendment, read_amendment
from .appends import is_append, read_append, read_streaming
from .asking import is_reply, read_ask, read_reply
from .errors import ErrorCode
from .faults import Faults, FrameError, shortened
from .inbound import (
    KIND_AMEND,
    KIND_APPEND,
    KIND_COMMAND,
    KIND_PRIVATE,
    KIND_PUBLISH,
    KIND_REGISTER,
    KIND_REPLY,
    KIND_TELEMETRY,
    PAYLOAD_RULE,
    Inbound,
)
from .names import CLIENT_ID_RULE, INBOX_ROOM, is_client_id
from .numbers import NUMBER_RULE, out_of_range, unusual
from .requests import read_command, read_registration
from .sight import id_at_sight, id_text
from .tracing import read_trace
from .values import valid_time

#: Aliases of keys, each with its canonical key. The canonical key wins over its aliases, and the first alias over the others.
KEY_ALIASES: dict[str, str] = {
    "from_client": "from",
    "sender": "from",
    "to_client": "to",
    "target": "to",
    "targets": "to",
    "content": "message",
    "args": "parameters",
    "params": "parameters",
    "event_type": "eventType",
}
#: Aliases of types, each with its canonical type.
TYPE_ALIASES = {"message": "event"}

#: The only types of a frame with ``version``. An ``append`` needs the key ``of`` besides, a ``reply``
#: ``to_message``, and an ``amend`` both ``of`` and ``do``.
V1_TYPES = frozenset({"event", "private", "system", "command", "telemetry", "register"})
#: The types that only the server sends. A client that sent them too would confuse the other clients.
SERVER_TYPES = frozenset({"ack", "error", "command_response", "stream_end"})
#: The kind of each type. A message of any other type is published.
KINDS = {
    "private": KIND_PRIVATE,
    "command": KIND_COMMAND,
    "telemetry": KIND_TELEMETRY,
    "register": KIND_REGISTER,
}
#: The kinds whose frames show them by other keys besides the type.
_OF_THEIR_OWN = frozenset({KIND_APPEND, KIND_REPLY, KIND_AMEND})
#: v1 clients address their commands to this channel, which has no log and no members.
CONTROL = "control"

_REGISTRATION_KEYS = frozenset({"client_id", "client_type", "screen_name", "token"})
#: Keys of the envelope that are never added to ``metadata``: every kind knows them, or other clients have no use for them.
_PRIVATE_KEYS = frozenset(
    {"version", "id", "type", "room", "channel", "from", "to", "timestamp", "payload", "message", "metadata"}
    | {"echo", "ack", "seq", "token", "ticket"}
)
_ENVELOPE_KEYS = _PRIVATE_KEYS | {"command", "parameters", "eventType"}
_TELEMETRY_KEYS = _PRIVATE_KEYS | {"eventType", "source"}
_NEVER_PARAMETERS = _ENVELOPE_KEYS - {"metadata", "echo", "seq"}
#: Aliases of commands, of telemetry and of private messages. In other frames they are the sender's own keys.
_COMMAND_ALIASES = frozenset({"args", "params"})
_TELEMETRY_ALIASES = frozenset({"event_type"})
_TARGET_ALIASES = frozenset({"target", "targets"})

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_strings = msgspec.json.Decoder(list[str])

#: The version as JSON.
VERSION = msgspec.json.encode(PROTOCOL)
_TRUE, _FALSE, _NULL = b"true", b"false", b"null"


def decode_object(data: bytes) -> dict[str, msgspec.Raw]:
    """The keys of a JSON object with their raw values.

    Raises :class:`FrameError` INVALID_JSON, with the frame's id if :func:`~bus.protocol.sight.id_at_sight` finds it.
    """
    try:
        if not data.isascii():
            data.decode()  # The decoder skips over the values, but all bytes that are passed on must be UTF-8.
        return _raw_object.decode(data)
    except RecursionError:
        raise FrameError(ErrorCode.INVALID_JSON, "The frame nests too deeply.", request_id=id_at_sight(data)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as problem:
        text = f"The frame is not a JSON object: {shortened(problem)}"
        raise FrameError(ErrorCode.INVALID_JSON, text, request_id=id_at_sight(data)) from None


def read_closely(data: bytes, *, only: frozenset[str] | None = None, default: str = "event") -> Inbound:
    """The canonical form of a frame, as :func:`normalise` makes it. Raises :class:`FrameError` with every fault of the frame."""
    return normalise(decode_object(data), only=only, default=default, numbers=unusual(data))


def normalise(
    raw: dict[str, msgspec.Raw],
    *,
    only: frozenset[str] | None = None,
    default: str = "event",
    numbers: bool = True,
) -> Inbound:
    """The canonical form of a decoded frame. Raises :class:`FrameError` with every fault of the frame.

    ``default`` is the type of a frame whose keys do not show its type. ``only`` are the types that this socket accepts; None
    accepts all. ``numbers=False`` skips the check of numbers, for a frame that :func:`~bus.protocol.numbers.unusual` has cleared.
    """
    faults = Faults()
    request_id = _frame_id(raw, faults)
    versioned = "version" in raw and bytes(raw["version"]) != _NULL
    if versioned:
        _check_version(raw, request_id)
    frame_type = _frame_type(raw, faults, default)
    if only is not None and frame_type not in only:
        faults.add(
            "type",
            f"On this socket `type` must be {' or '.join(sorted(only))}, or absent, and not {frame_type[:64]!r}.",
        )
        frame_type = default
    appends = is_append(frame_type, raw.get("of"))
    replies = is_reply(frame_type, raw.get("to_message"))
    kind = KIND_APPEND if appends else KIND_REPLY if replies else KINDS.get(frame_type, KIND_PUBLISH)
    if is_amendment(frame_type, raw):
        kind = KIND_AMEND
    if versioned:
        _check_v1(raw, frame_type, request_id, faults, of_its_own=kind in _OF_THEIR_OWN)
    inbound = Inbound(kind=kind, type=frame_type, id=request_id)
    if appends:
        if numbers:
            _check_numbers(raw, faults)
        inbound.ack = _flag(raw, "ack", faults)
        inbound.append = read_append(raw, faults)
        return _faultless(inbound, faults)
    if not replies:
        # A reply goes to who asked, so it has no address.
        inbound.room = _name_text(raw, "room", faults)
        inbound.channel = _name_text(raw, "channel", faults)
    raw = _canonical_keys(raw, kind, to_somebody=kind == KIND_PRIVATE or inbound.channel == INBOX_ROOM)
    if numbers:
        _check_numbers(raw, faults)
    if inbound.kind == KIND_REGISTER:
        inbound.registration = read_registration(raw, faults)
    elif inbound.kind == KIND_COMMAND:
        if versioned and inbound.channel == CONTROL:
            inbound.channel = None
        read_command(raw, inbound, faults, never=_NEVER_PARAMETERS)
    else:
        _read_content(raw, inbound, faults)
    return _faultless(inbound, faults)


def _faultless(inbound: Inbound, faults: Faults) -> Inbound:
    """The frame, if it has no fault. Raises :class:`FrameError`."""
    if faults.items:
        raise FrameError(ErrorCode.VALIDATION_ERROR, details=faults.items, request_id=inbound.id)
    return inbound


def _canonical_keys(raw: dict[str, msgspec.Raw], kind: str, *, to_somebody: bool) -> dict[str, msgspec.Raw]:
    """The frame with canonical keys instead of the aliases of its kind. A frame without aliases is returned as it is."""
    if KEY_ALIASES.keys().isdisjoint(raw):
        return raw
    own_keys: frozenset[str] = frozenset()
    if kind != KIND_COMMAND:
        own_keys |= _COMMAND_ALIASES
    if kind != KIND_TELEMETRY:
        own_keys |= _TELEMETRY_ALIASES
    if not to_somebody:
        own_keys |= _TARGET_ALIASES
    mended: dict[str, msgspec.Raw] = {}
    for key, value in raw.items():
        name = key if key in own_keys else KEY_ALIASES.get(key, key)
        if name == key or (name not in raw and name not in mended):
            mended[name] = value
    return mended


def _frame_id(raw: dict[str, msgspec.Raw], faults: Faults) -> str | None:
    value = raw.get("id")
    if value is None or (data := bytes(value)) == _NULL:
        return None
    text = id_text(data)
    if text is None:
        faults.add("id", "`id` must be a string.")
    elif not 1 <= len(text) <= 128 or not text.isprintable():
        faults.add("id", "`id` must have 1 to 128 printable characters.")
    else:
        return text
    return None


def _check_numbers(raw: dict[str, msgspec.Raw], faults: Faults) -> None:
    for key, value in raw.items():
        found = out_of_range(bytes(value))
        if found is not None:
            faults.add(key[:64], f"{found[:40].decode()} is out of range: {NUMBER_RULE}")


def _check_version(raw: dict[str, msgspec.Raw], request_id: str | None) -> None:
    if bytes(raw["version"]) != VERSION:
        shown = bytes(raw["version"])[:40].decode(errors="replace")
        raise FrameError(
            ErrorCode.UNSUPPORTED_VERSION, f'Version {shown} is not supported. Use "{PROTOCOL}".', request_id=request_id
        )


def _check_v1(
    raw: dict[str, msgspec.Raw], frame_type: str, request_id: str | None, faults: Faults, *, of_its_own: bool
) -> None:
    """Check the rules of v1: the type, and an id that begins with ``arq_``. Raises :class:`FrameError` for an unknown type.

    ``of_its_own`` is true for an append, a reply and an amendment, whose types count together with other keys.
    """
    if frame_type not in V1_TYPES and not of_its_own:
        raise FrameError(
            ErrorCode.UNKNOWN_TYPE,
            f"Type {frame_type[:64]!r} is unknown. With `version` it must be one of {', '.join(sorted(V1_TYPES))}.",
            request_id=request_id,
        )
    given = raw.get("type")
    if frame_type == "event" and (given is None or bytes(given) in (_NULL, b'""')):
        faults.add("type", f"With `version`, `type` is required: one of {', '.join(sorted(V1_TYPES))}.")
    if frame_type != "register" and not (request_id or "").startswith("arq_"):
        faults.add("id", "With `version`, `id` is required and must begin with arq_.")


def _frame_type(raw: dict[str, msgspec.Raw], faults: Faults, default: str) -> str:
    """The type of a frame: the given one, or the one that its keys show, or ``default``."""
    value = raw.get("type")
    if value is not None and (data := bytes(value)) != _NULL:
        if data[:1] != b'"':
            faults.add("type", "`type` must be a string.")
            return default
        text = _text.decode(data)
        if text:
            if len(text) > 64 or not text.isprintable():
                faults.add("type", "`type` must have 1 to 64 printable characters.")
                return default
            if text in SERVER_TYPES:
                faults.add("type", f"`type` {text} is reserved for the server.")
            return TYPE_ALIASES.get(text, text)
    if "command" in raw:
        return "command"
    if "eventType" in raw or "event_type" in raw:
        return "telemetry"
    if not _REGISTRATION_KEYS.isdisjoint(raw) and raw.keys().isdisjoint(("message", "content", "payload")):
        return "register"
    return default


def _name_text(raw: dict[str, msgspec.Raw], field: str, faults: Faults) -> str | None:
    """The text of ``room`` or ``channel``. Empty and null count as absent. Routing checks the name."""
    value = raw.get(field)
    if value is None:
        return None
    data = bytes(value)
    if data[:1] == b'"':
        return _text.decode(data) or None
    if data != _NULL:
        faults.add(field, f"`{field}` must be a string.")
    return None


def _flag(raw: dict[str, msgspec.Raw], field: str, faults: Faults) -> bool:
    value = raw.get(field)
    if value is None:
        return False
    data = bytes(value)
    if data == _TRUE:
        return True
    if data not in (_FALSE, _NULL):
        faults.add(field, f"`{field}` must be true or false.")
    return False


def _read_content(raw: dict[str, msgspec.Raw], inbound: Inbound, faults: Faults) -> None:
    """Read the fields of a message that is delivered to other clients: an event, a private, system or telemetry message."""
    inbound.echo = _flag(raw, "echo", faults)
    inbound.ack = _flag(raw, "ack", faults)
    payload = raw.get("payload")
    if payload is not None and (data := bytes(payload)) != _NULL:
        if data[:1] != b"{":
            faults.add("payload", PAYLOAD_RULE)
        else:
            inbound.payload = data
    message = raw.get("message")
    if message is not None and (data := bytes(message)) != _NULL:
        inbound.message = data
    inner: dict[str, msgspec.Raw] = {}
    if inbound.payload is not None:
        # A v1 sender keeps the text, and the targets of a private message, inside the payload.
        if may_hold_targets(inbound.payload):
            inner = _canonical_keys(_raw_object.decode(inbound.payload), inbound.kind, to_somebody=True)
        if inbound.message is None:
            inbound.message = inner_text(inbound.payload)
    if inbound.payload is None and inbound.message is not None:
        inbound.payload = b'{"message":%b}' % inbound.message
    if inbound.kind != KIND_REPLY:
        _read_targets(raw.get("to"), inner.get("to"), inbound, faults)
    timestamp = raw.get("timestamp")
    if timestamp is not None and bytes(timestamp)[:1] == b'"':
        inbound.client_timestamp = valid_time(_text.decode(bytes(timestamp)))
    known = _PRIVATE_KEYS
    if inbound.kind == KIND_TELEMETRY:
        _read_telemetry(raw, inbound, faults)
        known = _TELEMETRY_KEYS
    elif inbound.kind == KIND_REPLY:
        known |= read_reply(raw, inbound, faults)
    elif inbound.kind == KIND_AMEND:
        known |= read_amendment(raw, inbound, faults)
    else:
        if "stream" in raw or "steer" in raw:
            known |= read_streaming(raw, inbound, faults)
        if "ask" in raw:
            known |= read_ask(raw, inbound, faults)
    if "traceparent" in raw:
        known |= read_trace(raw, inbound)
    if "deliver_at" in raw and (data := bytes(raw["deliver_at"])) != _NULL:
        # Only a work channel knows the key. Elsewhere it is one of the sender's own, so it stays in the metadata.
        inbound.deliver_at = _text.decode(data) if data[:1] == b'"' else data.decode()
    inbound.metadata = _metadata(raw, known, faults)


def may_hold_targets(payload: bytes) -> bool:
    """Whether the JSON object ``payload`` may have a key with the targets of a private message."""
    return b'"to' in payload or b'"target' in payload


def inner_text(payload: bytes) -> bytes | None:
    """The text of a payload as JSON: its ``message`` or ``content``. None if that is no string."""
    if b'"message"' not in payload and b'"content"' not in payload:
        return None
    inner = _raw_object.decode(payload)
    text = inner.get("message", inner.get("content"))
    data = b"" if text is None else bytes(text)
    return data if data[:1] == b'"' else None


def _read_telemetry(raw: dict[str, msgspec.Raw], inbound: Inbound, faults: Faults) -> None:
    """Check the fields of telemetry. Programs read them, so each field must have its form."""
    payload = raw.get("payload")
    if inbound.payload is None and (payload is None or bytes(payload) == _NULL):
        faults.add("payload", "`payload` is missing. It must be an object.")
    event_type = raw.get("eventType")
    if event_type is None and inbound.payload is not None:
        # A v1 sender keeps its own fields inside the payload.
        inner = _raw_object.decode(inbound.payload)
        event_type = inner.get("eventType", inner.get("event_type"))
    inbound.event_type = _short_text(event_type, "eventType", faults, required=True)
    inbound.source = _short_text(raw.get("source"), "source", faults)
    timestamp = raw.get("timestamp")
    if inbound.client_timestamp is None and timestamp is not None and bytes(timestamp) != _NULL:
        faults.add("timestamp", "`timestamp` must be an ISO 8601 time such as 2026-01-01T00:00:00.000Z.")


def _short_text(value: msgspec.Raw | None, field: str, faults: Faults, *, required: bool = False) -> bytes | None:
    """A name of at most 128 printable characters, as JSON."""
    if value is None or (data := bytes(value)) == _NULL:
        if required:
            faults.add(field, f"`{field}` is missing. It must have 1 to 128 printable characters.")
        return None
    text = _text.decode(data) if data[:1] == b'"' else ""
    if not 1 <= len(text) <= 128 or not text.isprintable():
        faults.add(field, f"`{field}` must be a string of 1 to 128 printable characters.")
        return None
    return msgspec.json.encode(text)


def _read_targets(outer: msgspec.Raw | None, inner: msgspec.Raw | None, inbound: Inbound, faults: Faults) -> None:
    """Read the targets of a private message: of type ``private``, to the channel ``pm``, or to ``pm:<client_id>``."""
    value = outer if outer is not None and bytes(outer) != _NULL else None
    to_somebody = inbound.kind == KIND_PRIVATE or inbound.channel == INBOX_ROOM
    if value is None:
        if inner is None or not to_somebody:
            return
        value = inner
    room, channel = inbound.room or "", inbound.channel or ""
    to_somebody = to_somebody or INBOX_ROOM in (room.partition(":")[0], channel.partition(":")[0])
    data = bytes(value)
    try:
        targets = [_text.decode(data)] if data[:1] == b'"' else _strings.decode(data)
    except msgspec.DecodeError:
        faults.add("to", "`to` must be a client_id or a list of client_ids.")
        return
    if targets and not to_somebody:
        # The message would be published to every member of the channel, although the sender named its targets.
        faults.add("to", "`to` is only allowed in messages of type private or to the channel pm.")
        return
    for target in targets:
        if not is_client_id(target):
            faults.add("to", f"{target[:80]!r} is not a valid client_id. Use {CLIENT_ID_RULE}")
    inbound.to = list(dict.fromkeys(targets))


def _metadata(raw: dict[str, msgspec.Raw], known: frozenset[str], faults: Faults) -> bytes | None:
    """The sender's metadata as JSON, with the keys of the frame that are not ``known``."""
    own = raw.get("metadata")
    data = bytes(own) if own is not None else _NULL
    if data == _NULL:
        data = b""
    elif data[:1] != b"{":
        faults.add("metadata", "`metadata` must be an object.")
        return None
    if known.issuperset(raw):
        return data or None
    extras = b",".join(
        b"%b:%b" % (msgspec.json.encode(key), bytes(value)) for key, value in raw.items() if key not in known
    )
    inside = data[1:-1].strip()
    return b"{%b,%b}" % (inside, extras) if inside else b"{%b}" % extras


def request_id_of(data: bytes) -> str | None:
    """The ``id`` of a refused frame, for the error that its sender gets. None if the frame has no readable id."""
    try:
        return _frame_id(decode_object(data), Faults())
    except FrameError as problem:
        return problem.request_id


def token_of(data: bytes) -> str | None:
    """The access ``token`` (or ``ticket``) of a first frame that is not a registration."""
    raw = decode_object(data)
    value = raw.get("token", raw.get("ticket"))
    return _text.decode(bytes(value)) if value is not None and bytes(value)[:1] == b'"' else None
