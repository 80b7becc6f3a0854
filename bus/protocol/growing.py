"""Build the end of a streamed message, what acks tell of one, and the notices to its owner.

The parts stand in it as their owner wrote them: the body of a JSON string, or JSON objects joined by commas. Nothing here
decodes them. ``frames`` builds the parts and snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .frames import encode, message_head, message_uid, quoted, system
from .inbound import MODE_TEXT
from .names import Address

#: The type of the message that ends a stream.
STREAM_END = "stream_end"


def stream_end_head(of: str, message_id: str | None, address: Address, sender: str) -> bytes:
    """The bytes of a ``stream_end`` before ``timestamp`` and ``seq``. ``message_id`` is the id that the owner gave the end."""
    return message_head(end_uid(of, message_id), STREAM_END, address, sender)


def end_uid(of: str, message_id: str | None) -> str:
    """The ``arq_…`` id of the end of the streamed message ``of``."""
    return f"{of}_end" if message_id is None else message_uid(message_id)


def stream_end_tail(
    of: str,
    of_seq: int,
    mode: str,
    state: str,
    parts: int,
    untaken: Sequence[str],
    payload: bytes | None,
    data: bytes,
) -> bytes:
    """The bytes of a ``stream_end`` after ``timestamp`` and ``seq``. ``data`` is the JSON of all ``parts``."""
    return b',"of":%b,"of_seq":%d,"stream":{"mode":"%b","state":"%b","parts":%d},"untaken":%b,"payload":%b,%b}' % (
        quoted(of),
        of_seq,
        mode.encode(),
        state.encode(),
        parts,
        encode(untaken),
        payload or b"{}",
        b'"message":"%b"' % data if mode == MODE_TEXT else b'"parts":[%b]' % data,
    )


def stream_told(
    of: str, have: int, state: str, attempt: int, *, stopping: bool = False, untaken: Sequence[str] = ()
) -> bytes:
    """What an ack adds for a streamed message: the number of the last kept part, and the state.

    ``untaken`` are the uids of the steers that the owner had not taken at the end.
    """
    return b',"stream":{"of":%b,"have":%d,"state":"%b","attempt":%d%b%b}' % (
        quoted(of),
        have,
        state.encode(),
        attempt,
        b',"stopping":true' if stopping else b"",
        b',"untaken":%b' % encode(untaken) if untaken else b"",
    )


def steered_told(steered: bool) -> bytes:
    """What an ack adds for a steer: whether the stream was open."""
    return b',"steered":true' if steered else b',"steered":false'


def stop_requested(address: Address, of: str) -> bytes:
    """The notice to the owner of a streamed message that somebody asks it to stop."""
    return system("stop_requested", address, of=of)


def steer_notice(address: Address, of: str, frame: bytes) -> bytes:
    """The notice to the owner of a streamed message with the whole ``frame`` of a message that steers it."""
    return system("steer", address, of=of, message=msgspec.Raw(frame))
