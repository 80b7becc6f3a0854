"""Build every frame that the server sends.

A published message is built in two steps, because the log gives it ``seq`` and ``timestamp`` during the commit. The publisher
calls :func:`message_head` and :func:`message_tail`, and the log calls :func:`finish_message`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from ..version import PROTOCOL, VERSION
from .errors import BusError
from .inbound import Inbound
from .limits import Limits
from .names import SERVER, Address

encode = msgspec.json.encode


def quoted(text: str) -> bytes:
    """``text`` as a JSON string."""
    return encode(text)


def message_head(uid: str, type: str, address: Address, sender: str) -> bytes:
    """The bytes before ``timestamp`` and ``seq`` of a delivered message.

    ``sender`` is the true client id, never the ``from`` of the frame. ``uid`` is the message's ``arq_…`` id.
    """
    return b'{"version":"1.0","id":%b,%b' % (quoted(uid), _envelope(type, address, sender))


def message_tail(inbound: Inbound) -> bytes:
    """The bytes after ``timestamp`` and ``seq`` of a delivered message. All copies share them."""
    tail = b'%b,"payload":%b' % (inbound.trace, inbound.payload or b"{}")
    if inbound.stream is not None:
        tail = b',"stream":{"mode":"%b"}%b' % (inbound.stream.encode(), tail)
    if inbound.steer is not None:
        tail = b',"steer":%b%b' % (quoted(inbound.steer), tail)
    if inbound.message is not None:
        tail += b',"message":%b' % inbound.message
    if inbound.metadata is not None:
        tail += b',"metadata":%b' % inbound.metadata
    if inbound.client_timestamp is not None:
        tail += b',"client_timestamp":%b' % quoted(inbound.client_timestamp)
    if inbound.event_type is not None:
        tail += b',"eventType":%b' % inbound.event_type
    if inbound.source is not None:
        tail += b',"source":%b' % inbound.source
    return tail + b"}"


@lru_cache(maxsize=4096)
def _envelope(type: str, address: Address, sender: str) -> bytes:
    """The keys that one sender's messages of a type to an address share. All three arguments have a bounded length."""
    return b'"type":%b,"room":"%b","channel":"%b","from":"%b"' % (
        quoted(type),
        address.room.encode(),
        address.channel.encode(),
        sender.encode(),
    )


@lru_cache(maxsize=4096)
def place_keys(address: Address) -> bytes:
    """The keys ``room`` and ``channel`` of a frame."""
    return b'"room":"%b","channel":"%b"' % (address.room.encode(), address.channel.encode())


def finish_message(head: bytes, tail: bytes, timestamp: bytes, seq: int | None) -> bytes:
    """The whole frame. ``timestamp`` is ISO text. ``seq`` is None for a message that is not in a log."""
    if seq is None:
        return b'%b,"timestamp":"%b"%b' % (head, timestamp, tail)
    return b'%b,"timestamp":"%b","seq":%d%b' % (head, timestamp, seq, tail)


def message_uid(client_message_id: str) -> str:
    """The ``arq_…`` id of a delivered message, made from the id that its sender gave it."""
    return client_message_id if client_message_id.startswith("arq_") else f"arq_{client_message_id}"


def publish_key(sender: str, client_message_id: str, address: Address) -> str:
    """The key that recognises a repeated publish: the sender and its id of the message. For an inbox it includes the target."""
    if address.is_inbox:
        return f"{sender}/{client_message_id}>{address.channel}"
    return f"{sender}/{client_message_id}"


def ack(
    request_id: str | None,
    address: Address,
    seq: int | None,
    *,
    duplicate: bool = False,
    targets: dict[str, int | None] | None = None,
    unproven: Sequence[str] = (),
    growth: bytes = b"",
) -> bytes:
    """The ack of a durable message at ``seq``.

    A private message to several clients has a seq in each inbox: ``targets`` has them by client id, and ``seq`` is None.
    ``unproven`` targets receive the message only with their resume token. ``growth`` is what ``growing.stream_told`` or
    ``growing.steered_told`` adds.
    """
    if seq is not None and targets is None and not unproven:
        # The usual ack, in one step.
        return b'{"type":"ack","request_id":%b,"seq":%d,%b%b%b}' % (
            b"null" if request_id is None else encode(request_id),
            seq,
            place_keys(address),
            b',"duplicate":true' if duplicate else b"",
            growth,
        )
    return b'{"type":"ack","request_id":%b,"seq":%b,%b%b%b%b%b}' % (
        b"null" if request_id is None else quoted(request_id),
        b"null" if seq is None else b"%d" % seq,
        place_keys(address),
        b"" if targets is None else b',"targets":%b' % encode(targets),
        b',"duplicate":true' if duplicate else b"",
        b',"unproven":%b' % encode(unproven) if unproven else b"",
        growth,
    )


def system(event: str, at: Address | None = None, **payload: Any) -> bytes:
    """A ``system`` frame of the server about the address ``at``: welcome, registered, client_joined, client_left …"""
    frame: dict[str, Any] = {"version": "1.0", "type": "system", "from": SERVER}
    if at is not None:
        frame["room"], frame["channel"] = at
    frame["payload"] = {"event": event, **payload}
    return encode(frame)


def welcome(client_id: str, limits: Limits) -> bytes:
    """The first frame of a connection. Only the client id differs between two connections with the same limits."""
    before, behind = _around_welcome(limits.frame_bytes, limits.depth, limits.targets, limits.frames_per_second)
    return b"%b%b%b" % (before, quoted(client_id), behind)


@lru_cache(maxsize=16)
def _around_welcome(frame_bytes: int, depth: int, targets: int, frames_per_second: float) -> tuple[bytes, bytes]:
    limits = {"frame_bytes": frame_bytes, "depth": depth, "targets": targets, "frames_per_second": frames_per_second}
    whole = system("welcome", client_id="", protocol=PROTOCOL, server_version=VERSION, limits=limits, registered=False)
    before, mark, behind = whole.partition(b'"client_id":')
    return before + mark, behind.removeprefix(b'""')


def part(address: Address, of: str, n: int, mode: str, data: bytes) -> bytes:
    """The frame that brings members part ``n`` of the streamed message ``of``.

    ``data`` is the body of the delta's JSON string in mode ``text``, and the JSON of the part in mode ``parts``.
    """
    content = b'"delta":"%b"' % data if mode == "text" else b'"part":%b' % data
    return b'{"type":"append",%b,"of":%b,"n":%d,%b}' % (place_keys(address), quoted(of), n, content)


def snapshot(
    address: Address, of: str, upto: int, mode: str, attempt: int, data: bytes, of_seq: int, sender: str
) -> bytes:
    """The frame with everything of an open streamed message up to part ``upto``, in its ``attempt``.

    ``of_seq`` is the seq of the opening, and ``sender`` the client id of the owner.
    ``data`` is the body of one JSON string in mode ``text``, and JSON values with commas between in mode ``parts``.
    """
    content = b'"text":"%b"' % data if mode == "text" else b'"parts":[%b]' % data
    return b'{"type":"append",%b,"of":%b,"upto":%d,%b,"snapshot":true,"attempt":%d,"mode":"%b","of_seq":%d,"from":%b}' % (
        place_keys(address), quoted(of), upto, content, attempt, mode.encode(), of_seq, quoted(sender),
    )  # fmt: skip


def error(problem: BusError, request_id: str | None = None) -> bytes:
    """An error frame. ``request_id`` is the id of the refused frame."""
    return encode({"type": "error", "request_id": request_id, "error": problem.as_dict()})


def command_response(uid: str, request_id: str | None, command: str, message: str, result: Any) -> bytes:
    """The answer to a successful command."""
    # The result stands twice in the answer, and is encoded once.
    return _answer(uid, request_id, command, "success", message, result=msgspec.Raw(encode(result)))


def command_error(uid: str, request_id: str | None, command: str, problem: BusError) -> bytes:
    """The answer to a refused command."""
    return _answer(uid, request_id, command, "error", problem.message, error=problem.as_dict())


def _answer(uid: str, request_id: str | None, command: str, status: str, message: str, **outcome: Any) -> bytes:
    """The answer to a command, twice in one frame: v0 clients read the top level, v1 clients read ``payload``."""
    told = {"request_id": request_id, "command": command, "status": status, "message": message, **outcome}
    whole = {"version": PROTOCOL, "type": "command_response", "id": uid, "request_id": request_id, "from": SERVER}
    return encode({**whole, **told, "payload": told})
