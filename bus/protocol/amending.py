"""Amendments: a message that edits or deletes another one, or reacts to it. Read their frames, and fold them into the message.

The fold is the one rule for live, late and history readers. Both clients follow it (``tests/protocol/folds.json``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from .appends import LONGEST_UID
from .faults import Faults
from .frames import encode, quoted, system
from .growing import STREAM_END
from .inbound import Amend, Inbound
from .names import Address
from .values import is_printable

#: The type of a frame that changes another message. Without a text ``of`` and a known ``do`` it is an event of that type.
AMEND = "amend"
#: What an amendment does.
EDIT, DELETE, REACT, UNREACT = DOES = ("edit", "delete", "react", "unreact")
#: Characters of a reaction.
LONGEST_REACTION = 64
#: How each erased frame ends. No other frame does: the values of a sender stand before the last brace.
ERASED_END = b'"payload":{},"erased":true}'

#: The keys of an amendment besides those of every message. The server writes ``edits`` itself.
_KEYS = frozenset({"of", "of_seq", "do", "reaction", "edits"})
#: The keys of a frame that stay when it is erased, and those that also stay of an amendment and of the end of a stream.
_KEPT = ("version", "id", "type", "room", "channel", "from", "timestamp", "seq")
_KEPT_OF_AMENDMENT, _KEPT_OF_END = ("of", "of_seq", "do"), ("of", "of_seq", "stream", "untaken")
#: The keys with the content of a message, which a deleted one has no more.
_CONTENT = ("message", "metadata", "parts", "end_payload", "eventType", "source")
#: Characters that join others to one emoji. They count as printable in a reaction.
_JOINERS = frozenset({"\u200d", *map(chr, range(0xE0020, 0xE0080))})
_NULL, _EMPTY = b"null", msgspec.Raw(b"{}")

_text = msgspec.json.Decoder(str)
_number = msgspec.json.Decoder(int)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ErasedMessage(NamedTuple):
    """A message that was erased, as members are told of it. An amendment has the seq of its message, and what it did."""

    seq: int
    id: str
    of_seq: int = 0
    do: str = ""


class Change(msgspec.Struct, frozen=True):
    """An amendment as the fold needs it: ``by`` whom and ``at`` what time, with the ``seq`` of its own message.

    ``edits`` are the keys that an edit gives, and ``message`` and ``payload`` its raw JSON. The content of an ``erased``
    amendment is gone.
    """

    seq: int
    do: str
    by: str
    at: str = ""
    reaction: str = ""
    edits: tuple[str, ...] = ()
    message: bytes | None = None
    payload: bytes = b"{}"
    erased: bool = False


# --- reading ----------------------------------------------------------------------------------------------------------


def is_amendment(type: str, raw: dict[str, msgspec.Raw]) -> bool:
    """Whether a frame of ``type`` with these keys changes another message."""
    if type != AMEND or "of" not in raw or "do" not in raw:
        return False
    of, do = bytes(raw["of"]), bytes(raw["do"])
    return of[:1] == b'"' and do[:1] == b'"' and _text.decode(do) in DOES


def read_amendment(raw: dict[str, msgspec.Raw], inbound: Inbound, faults: Faults) -> frozenset[str]:
    """Read the keys that only an amendment has. Returns them; every fault is added to ``faults``."""
    of, do = _text.decode(bytes(raw["of"])), _text.decode(bytes(raw["do"]))
    if not is_printable(of, LONGEST_UID):
        faults.add("of", f"`of` must be the id of a message: 1 to {LONGEST_UID} printable characters.")
    reaction = _reaction(raw, do, faults)
    edits = tuple(key for key in ("message", "payload") if _given(raw, key)) if do == EDIT else ()
    if do == EDIT and not edits:
        faults.add("message", "An edit needs a `message`, a `payload`, or both.")
    inbound.amend = Amend(of, do, _of_seq(raw, faults), reaction, edits)
    return _KEYS


def _given(raw: dict[str, msgspec.Raw], key: str) -> bool:
    return key in raw and bytes(raw[key]) != _NULL


def _of_seq(raw: dict[str, msgspec.Raw], faults: Faults) -> int | None:
    """The seq of the message that is changed, where the sender says it."""
    if not _given(raw, "of_seq"):
        return None
    data = bytes(raw["of_seq"])
    if data.isdigit() and len(data) < 19 and data != b"0":
        return _number.decode(data)
    faults.add("of_seq", "`of_seq` must be the seq of a message: a positive whole number.")
    return None


def _reaction(raw: dict[str, msgspec.Raw], do: str, faults: Faults) -> str:
    if not _given(raw, "reaction"):
        if do in (REACT, UNREACT):
            faults.add("reaction", f"`reaction` is missing. It must have 1 to {LONGEST_REACTION} printable characters.")
        return ""
    data = bytes(raw["reaction"])
    text = _text.decode(data) if data[:1] == b'"' else ""
    if do not in (REACT, UNREACT):
        faults.add("reaction", f"`reaction` is only allowed in {REACT} and {UNREACT}.")
    elif not 1 <= len(text) <= LONGEST_REACTION or not all(sign.isprintable() or sign in _JOINERS for sign in text):
        faults.add("reaction", f"`reaction` must be a string of 1 to {LONGEST_REACTION} printable characters.")
    return text


def amendment_keys(amend: Amend, of_seq: int) -> bytes:
    """The keys of a delivered amendment, before ``payload``. ``of_seq`` is the seq of the message that it changes."""
    return b',"of":%b,"of_seq":%d,"do":"%b"%b%b' % (
        quoted(amend.of),
        of_seq,
        amend.do.encode(),
        b',"edits":%b' % encode(amend.edits) if amend.edits else b"",
        b',"reaction":%b' % encode(amend.reaction) if amend.reaction else b"",
    )


# --- erasing ----------------------------------------------------------------------------------------------------------


def is_erased(frame: bytes) -> bool:
    """Whether the content of a kept frame was erased."""
    return frame.endswith(ERASED_END)


def erased(frame: bytes) -> bytes:
    """The kept ``frame`` without its content. It keeps what says where it stands, and what an amendment did.

    ``frame`` is one that every JSON parser can read (``kept.legible``).
    """
    if is_erased(frame):
        return frame
    keys = _object.decode(frame)
    kind = _type_of(keys)
    stay: tuple[str, ...] = _KEPT
    if kind == STREAM_END:
        stay += _KEPT_OF_END
    elif is_amendment(kind, keys):
        stay += _KEPT_OF_AMENDMENT
    told = b",".join(b'"%b":%b' % (key.encode(), bytes(keys[key])) for key in stay if key in keys)
    return b"{%b,%b" % (told, ERASED_END)


def erased_notice(at: Address, messages: Iterable[ErasedMessage]) -> bytes:
    """The notice to members of a channel that the content of messages was erased. They drop their copies."""
    told = []
    for message in messages:
        one: dict[str, Any] = {"seq": message.seq, "id": message.id}
        if message.do:
            one |= {"of_seq": message.of_seq, "do": message.do}
        told.append(one)
    return system("erased", at, messages=told)


def _type_of(keys: dict[str, msgspec.Raw]) -> str:
    return _text.decode(bytes(keys.get("type", b'""')))


# --- folding ----------------------------------------------------------------------------------------------------------


class _Kept(msgspec.Struct, rename={"by": "from", "at": "timestamp"}):
    type: str
    seq: int
    by: str
    at: str
    do: str
    reaction: str = ""
    edits: tuple[str, ...] = ()
    message: msgspec.Raw = msgspec.Raw(_NULL)
    payload: msgspec.Raw = _EMPTY


_kept = msgspec.json.Decoder(_Kept)


def change_of(frame: bytes) -> Change | None:
    """What the kept ``frame`` of an amendment does. None for every other frame."""
    try:
        kept = _kept.decode(frame)
    except (msgspec.DecodeError, RecursionError):
        return None
    if kept.type != AMEND or kept.do not in DOES:
        return None
    message = None if bytes(kept.message) == _NULL else bytes(kept.message)
    return Change(
        kept.seq, kept.do, kept.by, kept.at, kept.reaction, kept.edits, message, bytes(kept.payload), is_erased(frame)
    )


def folded(frame: bytes, changes: Iterable[Change]) -> bytes:
    """The kept ``frame`` of a message with its amendments, in any order. It has ``edited``, ``deleted`` and ``reactions``.

    The rule: amendments count by their seq. The first delete ends it: no content stays, and later amendments do nothing. The
    newest edit counts, against the original: a key that it does not give is the original's. If the payload of the original has
    its text too, an edit of one changes both. Each client has each reaction once, from its first ``react`` after its last
    ``unreact``.
    """
    if is_erased(frame):
        return frame
    edit: Change | None = None
    reactions: dict[str, dict[str, int]] = {}
    by_seq = {change.seq: change for change in changes}
    for change in (by_seq[seq] for seq in sorted(by_seq)):
        if change.do == DELETE:
            return _deleted(frame, change)
        if change.do == EDIT:
            edit = change
        elif change.reaction:
            _react(reactions, change)
    told = _told(reactions)
    if edit is None and not told:
        return frame
    keys = _object.decode(frame)
    if edit is not None:
        _edit(keys, edit)
    if told:
        keys["reactions"] = msgspec.Raw(encode(told))
    return encode(keys)


def _deleted(frame: bytes, change: Change) -> bytes:
    keys = _object.decode(frame)
    for key in _CONTENT:
        keys.pop(key, None)
    keys["payload"] = _EMPTY
    keys["deleted"] = _mark(change)
    return encode(keys)


def _mark(change: Change) -> msgspec.Raw:
    return msgspec.Raw(encode({"seq": change.seq, "at": change.at, "by": change.by}))


def _edit(keys: dict[str, msgspec.Raw], edit: Change) -> None:
    keys["edited"] = _mark(edit)
    if edit.erased:
        keys["payload"] = _EMPTY
        keys.pop("message", None)
        return
    twin = _twin(keys)
    if "payload" in edit.edits:
        keys["payload"] = msgspec.Raw(edit.payload)
        if edit.message is not None:
            keys["message"] = msgspec.Raw(edit.message)
        elif twin:
            del keys["message"]
    elif edit.message is not None:
        keys["message"] = msgspec.Raw(edit.message)
        if twin:
            payload = _object.decode(bytes(keys["payload"]))
            payload[twin] = msgspec.Raw(edit.message)
            keys["payload"] = msgspec.Raw(encode(payload))


def _twin(keys: dict[str, msgspec.Raw]) -> str:
    """The key of the payload that has the text of the message a second time; empty for none."""
    payload: dict[str, Any] = _object.decode(bytes(keys["payload"]))
    key = "message" if "message" in payload else "content"
    if key not in payload or "message" not in keys:
        return ""
    same = msgspec.json.decode(bytes(payload[key])) == msgspec.json.decode(bytes(keys["message"]))
    return key if same else ""


def _react(reactions: dict[str, dict[str, int]], change: Change) -> None:
    clients = reactions.setdefault(change.reaction, {})
    if change.do == REACT:
        clients.setdefault(change.by, change.seq)
    else:
        clients.pop(change.by, None)


def _told(reactions: dict[str, dict[str, int]]) -> dict[str, list[str]]:
    """The reactions by the seq of their first ``react`` that holds, each with its clients in the same order."""
    told = {reaction: clients for reaction, clients in reactions.items() if clients}
    first = sorted(told, key=lambda reaction: min(told[reaction].values()))
    return {reaction: sorted(told[reaction], key=told[reaction].__getitem__) for reaction in first}
