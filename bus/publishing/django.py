"""Publish from Django code (also REST, the admin, management commands), with the log, order and rules of the socket.

Inside a transaction, subscribers receive a message after the commit, and never after a rollback. The caller's transaction
writes the message too, so it is as durable as the other changes. With ``durable=False`` it is written after the commit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.db import IntegrityError, connection
from django.utils import timezone

from ..auth.permissions import SYSTEM, Actor, checked
from ..conf.settings import config
from ..protocol import frames
from ..protocol.appends import APPEND, LONGEST_UID
from ..protocol.errors import BusError, ErrorCode
from ..protocol.growing import STREAM_END
from ..protocol.inbound import KIND_PRIVATE, KIND_PUBLISH, MODES, PAYLOAD_RULE, Inbound
from ..protocol.names import DEFAULT_ADDRESS, WHOLE, Address
from ..protocol.routing import Route, resolve
from ..protocol.usual import read
from ..protocol.values import is_printable, wrong_with
from ..shapes import Published
from . import amending, streamed
from .batch import Batch, Delivery, Terms
from .plan import at, route


def publish(
    address: str | Address,
    payload: dict[str, Any] | None = None,
    *,
    message: str | None = None,
    type: str = "event",
    id: str | None = None,
    metadata: dict[str, Any] | None = None,
    steer: str | None = None,
    deliver_at: datetime | timedelta | None = None,
    actor: Actor = SYSTEM,
    durable: bool = True,
) -> Published:
    """Publish to ``room:channel``, ``room:*`` (or just ``room``), ``*:*`` or ``pm:<client_id>``.

    ``payload`` is a JSON object, and ``message`` a text; give one or both. The bus recognises a repeated ``id`` for the seconds
    of the setting ``idempotency_window``. ``durable=True`` writes the row in the caller's transaction, and subscribers receive
    the message after the commit. If this process dies in between, the servers find the message in the log. ``durable=False``
    writes after the commit. ``steer`` is the id of a streamed message, whose owner is told of this message. In a work channel,
    no worker gets the message before ``deliver_at``: an aware time, or a time from now on.

    Raises ``BusError`` INVALID_NAME, CHANNEL_NOT_FOUND, STREAM_NOT_FOUND, FORBIDDEN or VALIDATION_ERROR. TARGET_NOT_FOUND
    means the inbox of a client that never connected. OUTCOME_UNKNOWN means that the database failed during the commit. If it
    fails before, raises the database's own error.
    """
    inbound = message_to(address, payload, message, type=type, id=id, metadata=metadata, steer=steer)
    if isinstance(deliver_at, timedelta):
        deliver_at = timezone.now() + deliver_at
    if deliver_at is not None:
        inbound.deliver_at = deliver_at.isoformat()
    return publish_frames([inbound], actor=actor, durable=durable).published[0]


def publish_all(
    messages: Iterable[tuple[str | Address, dict[str, Any]]], *, actor: Actor = SYSTEM, durable: bool = True
) -> list[Published]:
    """Publish several messages, each an address and a payload, in one transaction and in order. All are published, or none.

    Raises ``BusError`` as :func:`publish`. With several messages, its details have the ``index`` of the refused one.
    """
    frames_in = []
    for address, payload in messages:
        inbound = _inbound(payload, None, type="event", id=None)
        inbound.room = _text(address)
        frames_in.append(inbound)
    return publish_frames(frames_in, actor=actor, durable=durable).published if frames_in else []


def _text(address: str | Address) -> str:
    """An address as text. Raises ``BusError`` INVALID_NAME for an empty one, which only a frame may have."""
    if isinstance(address, Address):
        address = str(address) if all(address) else ""
    if not address:
        raise BusError(
            ErrorCode.INVALID_NAME,
            "The address, or a part of it, is empty. Use room:channel.",
            [{"field": "address"}],
        )
    return address


def address_of(address: str | Address) -> Address:
    """The address that ``message_to`` gives a message. A room alone is the whole room. Raises ``BusError`` INVALID_NAME."""
    return resolve(_text(address), None, DEFAULT_ADDRESS)


def publish_frames(
    frames_in: Sequence[Inbound],
    *,
    actor: Actor,
    initial: Address | None = None,
    durable: bool = True,
    create: bool = True,
    may_wait: bool = False,
    new_sender: bool = False,
) -> Delivery:
    """Publish frames in one transaction and in order, by the rules of the socket. All are published, or none.

    ``initial`` is the address of a frame without one; without ``initial``, such a frame is refused. ``create=False`` creates no
    channels. ``may_wait`` says that the caller can retry: if the other processes cannot get an ephemeral message now, it is
    refused with BUSY. Without ``may_wait`` the message then only reaches this process, so that the caller's transaction does
    not fail. With ``new_sender`` the actor takes its client id (``clients.take_id``) in the same transaction, after the checks.

    Raises ``BusError`` as :func:`publish`, and UNKNOWN_TYPE, LIMIT_REACHED, BUSY, CLIENT_ID_IN_USE. With several frames, the
    details of an error of one frame have its ``index``.
    """
    checked(actor)
    planned = [
        _planned(inbound, actor, initial, position if len(frames_in) > 1 else None)
        for position, inbound in enumerate(frames_in)
    ]
    if any(inbound.amend is not None for inbound in frames_in):
        planned = amending.placed(frames_in, planned, actor, initial)
    transaction_is_ours = not connection.in_atomic_block
    terms = Terms(
        durable=durable,
        create=create,
        may_wait=may_wait,
        new_sender=new_sender,
        deadline=time.monotonic() + config().gate_timeout,
    )
    attempt = 1
    while True:
        try:
            return Batch(frames_in, planned, actor, terms).publish()
        except IntegrityError:
            # Another process used one of the ids, or removed a channel, between our query and our insert. Retry.
            if not transaction_is_ours or attempt == 3:
                raise
            attempt += 1


def _planned(inbound: Inbound, actor: Actor, initial: Address | None, index: int | None) -> Route:
    try:
        return route(inbound, actor, initial)
    except BusError as problem:
        raise problem if index is None else at(problem, index) from None


def broadcast_to_channel(
    room: str,
    channel: str,
    payload: dict[str, Any] | None = None,
    *,
    message: str | None = None,
    **options: Any,
) -> Published:
    """Publish to one channel. ``options`` and exceptions are those of :func:`publish`."""
    return publish(Address(room, channel), payload, message=message, **options)


def broadcast_to_room(
    room: str, payload: dict[str, Any] | None = None, *, message: str | None = None, **options: Any
) -> Published:
    """Publish once to each member of any channel of a room. ``options`` and exceptions are those of :func:`publish`."""
    return publish(Address(room, WHOLE), payload, message=message, **options)


def send_private(
    targets: str | Iterable[str],
    payload: dict[str, Any] | None = None,
    *,
    message: str | None = None,
    id: str | None = None,
    actor: Actor = SYSTEM,
) -> list[Published]:
    """Put a private message into the inbox of each target. Raises ``BusError`` TARGET_NOT_FOUND if no target is known.

    The result has one item for each known target. Unknown targets among known ones are left out.
    """
    return publish_frames([private_message(targets, payload, message, id=id)], actor=actor).published


def private_message(
    targets: str | Iterable[str],
    payload: dict[str, Any] | None = None,
    message: str | None = None,
    *,
    id: str | None = None,
) -> Inbound:
    """A private message for :func:`publish_frames`. Raises ``BusError`` VALIDATION_ERROR."""
    inbound = _inbound(payload, message, type="private", id=id)
    inbound.kind = KIND_PRIVATE
    inbound.to = [targets] if isinstance(targets, str) else list(dict.fromkeys(targets))
    return inbound


def message_to(
    address: str | Address,
    payload: dict[str, Any] | None = None,
    message: str | None = None,
    *,
    type: str = "event",
    id: str | None = None,
    metadata: dict[str, Any] | None = None,
    stream: str | None = None,
    steer: str | None = None,
) -> Inbound:
    """A message to an address for :func:`publish_frames`. Raises ``BusError`` INVALID_NAME or VALIDATION_ERROR.

    ``stream`` is the mode of the stream that it opens, and ``steer`` the id of the one that it steers.
    """
    inbound = _inbound(payload, message, type=type, id=id)
    inbound.room = _text(address)
    if stream is not None and stream not in MODES:
        raise streamed.invalid("stream", f"The mode of a stream is one of {', '.join(MODES)}.")
    if steer is not None and not is_printable(steer, LONGEST_UID):
        raise streamed.invalid("steer", "`steer` is the id of a streamed message.")
    inbound.stream, inbound.steer = stream, steer
    if metadata is not None:
        inbound.metadata = encoded(metadata, "metadata")
    return inbound


def append_message(of: str, n: int, **keys: Any) -> Inbound:
    """An append to a streamed message for :func:`publish_frames`, with the ``keys`` of the frame that are not None.

    Raises ``BusError`` VALIDATION_ERROR.
    """
    return _read({"type": APPEND, "of": of, "n": n, **keys}, "payload" if keys.get("part") is None else "part")


def frame_message(**keys: Any) -> Inbound:
    """The message of a frame with the ``keys`` that are not None, by the grammar of the socket. Raises ``BusError`` as that."""
    return _read(keys, "payload")


def _read(keys: dict[str, Any], field: str) -> Inbound:
    """The message of a frame. ``field`` is the one that an error names if the frame is no JSON."""
    return read(encoded({key: value for key, value in keys.items() if value is not None}, field))


def _inbound(payload: dict[str, Any] | None, message: str | None, *, type: str, id: str | None) -> Inbound:
    """A message of Django code in canonical form. Raises ``BusError`` VALIDATION_ERROR."""
    if type == STREAM_END:
        raise streamed.invalid("type", f"`type` {type} is reserved for the server.")
    for field, text, longest in (("type", type, 64), ("id", id, 128)):
        if not (is_printable(text, longest) or (field == "id" and not text)):
            message_ = f"`{field}` is 1 to {longest} printable characters long."
            raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": message_}])
    inbound = Inbound(kind=KIND_PUBLISH, type=type, id=id)
    if payload is not None:
        inbound.payload = encoded(payload, "payload")
        if not inbound.payload.startswith(b"{"):
            raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": "payload", "message": PAYLOAD_RULE}])
    if message is not None:
        inbound.message = encoded(message, "message")
        inbound.payload = inbound.payload or b'{"message":%b}' % inbound.message
    return inbound


def encoded(value: Any, field: str, levels: int = 1) -> bytes:
    """The JSON of a value of Django code, which stands so many ``levels`` deep in its frame.

    Raises ``BusError`` VALIDATION_ERROR on ``field`` for one that no frame may have.
    """
    data, fault = b"", None
    try:
        data = frames.encode(value)
        fault = wrong_with(data, config().frame_depth - levels)
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        fault = str(problem)[:200]
    if fault is not None:
        raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": fault}])
    return data


apublish = sync_to_async(publish, thread_sensitive=True)
apublish_all = sync_to_async(publish_all, thread_sensitive=True)
abroadcast_to_channel = sync_to_async(broadcast_to_channel, thread_sensitive=True)
abroadcast_to_room = sync_to_async(broadcast_to_room, thread_sensitive=True)
asend_private = sync_to_async(send_private, thread_sensitive=True)
