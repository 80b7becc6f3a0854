"""Read the frames that let a streamed message grow: an ``append``, and the keys ``stream`` and ``steer`` of a message.

A text's bytes are kept as its owner wrote them, without the quotes. They are never decoded on their way through the bus.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .faults import Faults
from .inbound import ENDS, MODE_PARTS, MODE_TEXT, MODES, Append, Inbound
from .values import is_printable

#: The type of a frame that appends. Without a text ``of`` it is an event of that type, as it always was.
APPEND = "append"
#: The largest number of a part: JavaScript reads it exactly.
MOST_PARTS = 2**53 - 1
#: Characters of the id of a streamed message, and of an owner's token.
LONGEST_UID, LONGEST_TOKEN = 160, 256
#: Steers that one append takes at most.
MOST_TAKEN = 100

_NULL = msgspec.Raw(b"null")
_OF_RULE = f"`of` must be the id of a streamed message: 1 to {LONGEST_UID} printable characters."
_N_RULE = f"`n` must be the number of the part, a whole number between 1 and {MOST_PARTS}."


class AppendFrame(msgspec.Struct, gc=False):
    """The keys of an append. Other keys are ignored. A wrong JSON type makes it a frame that :func:`read_append` reports."""

    type: Literal["append"]
    of: str
    n: int
    delta: msgspec.Raw = _NULL
    part: msgspec.Raw = _NULL
    end: str | None = None
    payload: msgspec.Raw = _NULL
    took: list[str] | None = None
    token: str | None = None
    id: str | None = None
    ack: bool = False
    version: msgspec.Raw = _NULL


_text = msgspec.json.Decoder(str)
_number = msgspec.json.Decoder(int)
_strings = msgspec.json.Decoder(list[str])
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def is_append(type: str, of: msgspec.Raw | None) -> bool:
    """Whether a frame of ``type`` with the key ``of`` appends to a streamed message."""
    return type == APPEND and of is not None and bytes(of)[:1] == b'"'


def valid_append(frame: AppendFrame) -> Append | None:
    """The append of a frame whose keys have the right JSON types. None if a value breaks a rule."""
    delta, part, payload = value_of(frame.delta), value_of(frame.part), value_of(frame.payload)
    if delta is not None:
        if part is not None or delta[:1] != b'"':
            return None
        mode, data = MODE_TEXT, delta[1:-1]
    elif part is not None:
        if part[:1] != b"{":
            return None
        mode, data = MODE_PARTS, part
    elif frame.end is None:
        return None
    else:
        mode, data = "", b""
    if not (0 if not mode else 1) <= frame.n <= MOST_PARTS or not is_printable(frame.of, LONGEST_UID):
        return None
    if frame.end is None:
        if payload is not None:
            return None
    elif frame.end not in ENDS or (payload is not None and payload[:1] != b"{"):
        return None
    took = frame.took or ()
    if took and not _are_uids(took):
        return None
    if frame.token is not None and not is_printable(frame.token, LONGEST_TOKEN):
        return None
    return Append(frame.of, frame.n, mode, data, frame.end, payload, tuple(took), frame.token)


def read_append(raw: dict[str, msgspec.Raw], faults: Faults) -> Append:
    """The append of a decoded frame. Every fault is added to ``faults``."""
    of = _text.decode(bytes(raw["of"]))
    if not is_printable(of, LONGEST_UID):
        faults.add("of", _OF_RULE)
    mode, data = _content(raw, faults)
    end = _end(raw, faults)
    if not mode and end is None and not faults.items:
        faults.add("delta", "An append must have `delta`, `part` or `end`.")
    payload = _given(raw, "payload")
    if payload is not None and payload[:1] != b"{":
        faults.add("payload", "`payload` must be an object.")
    elif payload is not None and end is None:
        faults.add("payload", "Only an append with `end` has a `payload`.")
    return Append(
        of,
        _n(raw, faults, 1 if mode or end is None else 0),
        mode,
        data,
        end,
        payload,
        _took(raw, faults),
        _token(raw, faults),
    )


def _content(raw: dict[str, msgspec.Raw], faults: Faults) -> tuple[str, bytes]:
    """The mode and the bytes of a part; empty for a frame without one."""
    delta, part = _given(raw, "delta"), _given(raw, "part")
    if delta is not None and part is not None:
        faults.add("part", "An append has `delta` or `part`, and not both.")
    elif delta is not None:
        if delta[:1] == b'"':
            return MODE_TEXT, delta[1:-1]
        faults.add("delta", "`delta` must be a string.")
    elif part is not None:
        if part[:1] == b"{":
            return MODE_PARTS, part
        faults.add("part", "`part` must be an object.")
    return "", b""


def _n(raw: dict[str, msgspec.Raw], faults: Faults, least: int) -> int:
    data = _given(raw, "n")
    try:
        n = _number.decode(data or b"null")
    except msgspec.DecodeError:
        n = -1
    if not least <= n <= MOST_PARTS:
        faults.add("n", _N_RULE if least else f"{_N_RULE[:-1]}, or 0 for a message that ends without a part.")
    return n


def _end(raw: dict[str, msgspec.Raw], faults: Faults) -> str | None:
    data = _given(raw, "end")
    if data is None:
        return None
    text = _text.decode(data) if data[:1] == b'"' else ""
    if text not in ENDS:
        faults.add("end", f"`end` must be one of {', '.join(ENDS)}.")
    return text


def _took(raw: dict[str, msgspec.Raw], faults: Faults) -> tuple[str, ...]:
    data = _given(raw, "took")
    try:
        took = [] if data is None else _strings.decode(data)
    except msgspec.DecodeError:
        took = [""]
    if took and not _are_uids(took):
        faults.add("took", f"`took` must be a list of at most {MOST_TAKEN} ids of messages.")
    return tuple(took)


def _token(raw: dict[str, msgspec.Raw], faults: Faults) -> str | None:
    data = _given(raw, "token")
    if data is None:
        return None
    text = _text.decode(data) if data[:1] == b'"' else ""
    if not is_printable(text, LONGEST_TOKEN):
        faults.add("token", f"`token` must be a string of 1 to {LONGEST_TOKEN} printable characters.")
    return text


def _are_uids(taken: list[str]) -> bool:
    return len(taken) <= MOST_TAKEN and all(is_printable(uid, LONGEST_UID) for uid in taken)


def _given(raw: dict[str, msgspec.Raw], field: str) -> bytes | None:
    """The JSON of a key. Null counts as absent."""
    value = raw.get(field)
    return None if value is None else value_of(value)


def value_of(raw: msgspec.Raw) -> bytes | None:
    """The JSON of a value. Null counts as absent."""
    data = bytes(raw)
    return None if data == b"null" else data


# --- the keys of a message -----------------------------------------------------------------------------------------------


def read_streaming(raw: dict[str, msgspec.Raw], inbound: Inbound, faults: Faults) -> set[str]:
    """Read the keys of a message that opens a stream, or steers one. Returns which of them the message has.

    A ``stream`` that is no object, and a ``steer`` that is no id of a message, are keys of the sender's own.
    """
    found: set[str] = set()
    stream, steer = raw.get("stream"), raw.get("steer")
    if stream is not None and bytes(stream)[:1] == b"{":
        found.add("stream")
        inbound.stream = _mode(bytes(stream), faults)
        if len(inbound.to) > 1:
            faults.add("stream", "A private message that grows has one target.")
    if steer is not None and bytes(steer)[:5] == b'"arq_':
        found.add("steer")
        inbound.steer = _text.decode(bytes(steer))
        if not is_printable(inbound.steer, LONGEST_UID):
            faults.add("steer", _OF_RULE.replace("`of`", "`steer`"))
        if inbound.stream is not None:
            faults.add("steer", "A message opens a stream or steers one, and not both.")
    return found


def _mode(stream: bytes, faults: Faults) -> str:
    told = _object.decode(stream)
    if told.keys() - {"mode"}:
        faults.add("stream", "`stream` must be an object with no key but `mode`.")
    data = _given(told, "mode")
    if data is None:
        return MODE_TEXT
    text = _text.decode(data) if data[:1] == b'"' else ""
    if text not in MODES:
        faults.add("stream", f"The `mode` in `stream` must be one of {', '.join(MODES)}.")
    return text
