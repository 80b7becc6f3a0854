"""Build the frames of a streamed message: its parts, snapshots and end, and the notices to its owner.

Texts and parts go through as the JSON that their owner wrote: the body of a JSON string (without its quotes), or JSON objects
joined by commas. Nothing here decodes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .frames import encode, message_head, message_uid, place_keys, quoted, system
from .inbound import MODE_TEXT
from .names import Address

#: The type of the message that ends a stream.
STREAM_END = "stream_end"


def append_frame(address: Address, of: str, n: int, mode: str, data: bytes) -> bytes:
    """Part ``n`` of the streamed message ``of``, for its readers. ``data`` is the part's JSON without quotes."""
    return b'{"type":"append",%b,"of":%b,"n":%d,%b}' % (place_keys(address), quoted(of), n, _part(mode, data))


def snapshot_frame(address: Address, of: str, upto: int, mode: str, data: bytes, attempt: int) -> bytes:
    """The parts 1 to ``upto`` of the streamed message ``of`` in one frame. ``data`` is their JSON."""
    return b'{"type":"append",%b,"of":%b,"upto":%d,%b,"snapshot":true,"attempt":%d,"mode":"%b"}' % (
        place_keys(address),
        quoted(of),
        upto,
        whole(mode, data, b"text"),
        attempt,
        mode.encode(),
    )


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
        whole(mode, data, b"message"),
    )


def whole(mode: str, data: bytes, text_key: bytes) -> bytes:
    """The key of all parts and its value: ``text_key`` with the text, or ``parts`` with the list."""
    return b'"%b":"%b"' % (text_key, data) if mode == MODE_TEXT else b'"parts":[%b]' % data


def stream_told(of: str, have: int, state: str, attempt: int, *, stopping: bool = False) -> bytes:
    """What an ack adds for a streamed message: the number of the last kept part, and the state."""
    return b',"stream":{"of":%b,"have":%d,"state":"%b","attempt":%d%b}' % (
        quoted(of),
        have,
        state.encode(),
        attempt,
        b',"stopping":true' if stopping else b"",
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


def _part(mode: str, data: bytes) -> bytes:
    return b'"delta":"%b"' % data if mode == MODE_TEXT else b'"part":%b' % data
