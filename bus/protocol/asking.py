"""Read the frames of questions: the key ``ask`` of a message, and a ``reply``. Build the keys that only they have."""

from __future__ import annotations

import msgspec

from .appends import LONGEST_UID
from .faults import Faults
from .frames import encode, quoted
from .inbound import Ask, Inbound, Reply
from .names import CLIENT_ID_RULE, is_client_id
from .values import is_printable

#: The type of a frame that answers a question. Without a text ``to_message`` it is an event of that type, as it always was.
REPLY = "reply"
#: The shortest time that an asker may wait, and the time without a ``timeout``, in seconds.
SHORTEST, USUAL = 0.1, 30.0
#: Characters of a ``correlation``, and of the ``error`` of a reply.
LONGEST_CORRELATION, LONGEST_ERROR = 160, 2000

_ASK_RULE = (
    f"`ask` must be an object with no other keys than `timeout` (seconds, at least {SHORTEST}), `durable` (true or false) "
    f"and `correlation` (1 to {LONGEST_CORRELATION} printable characters)."
)
#: The keys of a reply besides those of every message. The server knows two of them itself.
_REPLY_KEYS = frozenset({"to_message", "reply_to", "error", "correlation", "ask"})


class _Ask(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    timeout: float | None = None
    durable: bool | None = None
    correlation: str | None = None


_ask = msgspec.json.Decoder(_Ask)
_text = msgspec.json.Decoder(str)


def read_ask(raw: dict[str, msgspec.Raw], inbound: Inbound, faults: Faults) -> set[str]:
    """Read the ``ask`` of a message. Returns the keys that were read: an ``ask`` that is no object is the sender's own key."""
    data = bytes(raw["ask"])
    if data[:1] != b"{":
        return set()
    inbound.ask = _ask_of(data)
    if inbound.ask is None:
        faults.add("ask", _ASK_RULE)
    if len(inbound.to) > 1:
        faults.add("ask", "A question has one target.")
    if inbound.stream is not None or inbound.steer is not None:
        faults.add("ask", "A question neither opens a stream nor steers one.")
    return {"ask"}


def _ask_of(data: bytes) -> Ask | None:
    """The value of an ``ask``; None for a wrong one."""
    try:
        told = _ask.decode(data)
    except msgspec.DecodeError:
        return None
    timeout = USUAL if told.timeout is None else told.timeout
    if timeout < SHORTEST or not (told.correlation is None or is_printable(told.correlation, LONGEST_CORRELATION)):
        return None
    return Ask(timeout, durable=bool(told.durable), correlation=told.correlation)


def is_reply(type: str, to_message: msgspec.Raw | None) -> bool:
    """Whether a frame of ``type`` with the key ``to_message`` answers a question."""
    return type == REPLY and to_message is not None and bytes(to_message)[:1] == b'"'


def read_reply(raw: dict[str, msgspec.Raw], inbound: Inbound, faults: Faults) -> frozenset[str]:
    """Read the keys that only a reply has. Returns them; every fault is added to ``faults``."""
    to_message = _text.decode(bytes(raw["to_message"]))
    if not is_printable(to_message, LONGEST_UID):
        faults.add("to_message", f"`to_message` must be the id of a question: 1 to {LONGEST_UID} printable characters.")
    asker = _optional_text(raw, "reply_to", faults)
    if asker is not None and not is_client_id(asker):
        faults.add("reply_to", f"`reply_to` must be the client_id of the asker. Use {CLIENT_ID_RULE}")
    error = _optional_text(raw, "error", faults)
    if error is not None and not 1 <= len(error) <= LONGEST_ERROR:
        faults.add("error", f"`error` must have 1 to {LONGEST_ERROR} characters.")
    inbound.reply = Reply(to_message, asker, error)
    return _REPLY_KEYS


def _optional_text(raw: dict[str, msgspec.Raw], field: str, faults: Faults) -> str | None:
    value = raw.get(field)
    if value is None or (data := bytes(value)) == b"null":
        return None
    if data[:1] != b'"':
        faults.add(field, f"`{field}` must be a string.")
        return None
    return _text.decode(data)


def question_keys(ask: Ask, asker: str, correlation: str) -> bytes:
    """The keys of a delivered question, before ``payload``. ``asker`` is the client id that its reply goes to."""
    timeout = encode(int(ask.timeout) if ask.timeout.is_integer() else ask.timeout)
    return b',"ask":{"timeout":%b,"durable":%b},"reply_to":%b,"correlation":%b' % (
        timeout,
        b"true" if ask.durable else b"false",
        quoted(asker),
        quoted(correlation),
    )


def reply_keys(to_message: str, correlation: str, error: str | None) -> bytes:
    """The keys of a delivered reply, before ``payload``. ``error`` says why there is no answer."""
    return b',"to_message":%b,"correlation":%b%b' % (
        quoted(to_message),
        quoted(correlation),
        b"" if error is None else b',"error":%b' % encode(error),
    )


class _Answering(msgspec.Struct):
    type: str = ""
    to_message: object = None


_answering = msgspec.json.Decoder(_Answering)


def answered(frame: bytes) -> str | None:
    """The id of the question that a delivered ``frame`` answers. None for every other frame."""
    try:
        found = _answering.decode(frame)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found.to_message if found.type == REPLY and isinstance(found.to_message, str) else None


def result_payload(result: bytes | None) -> bytes:
    """The payload of the reply that the ``result`` (JSON) of a job becomes. A result that is no object stands in one."""
    if result is None:
        return b'{"result":null}'
    return result if result[:1] == b"{" else b'{"result":%b}' % result
