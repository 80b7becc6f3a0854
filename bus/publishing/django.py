"""Publishing from Django code (also REST, the admin, management commands): the same log, order and rules as a socket's.

Inside a transaction nothing is seen before the commit, and nothing at all after a rollback. The message itself is written
by the caller's own transaction (so it is as durable as what it tells of), unless ``durable=False`` leaves it to after the commit.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import Error as DatabaseError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from .. import signals
from ..auth.permissions import PUBLISH, SYSTEM, Actor, can, require, require_admin_for
from ..conf.settings import config
from ..directory.channels import ChannelRef, ensure, find_all
from ..directory.clients import known, take_id
from ..log import CommitInDoubt, Entry, Passed, append_batch, id_taken
from ..models import wire_time
from ..notify import broker
from ..notify import messages as bells
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode, target_not_found
from ..protocol.inbound import KIND_PUBLISH, PAYLOAD_RULE, Inbound
from ..protocol.names import EVERYONE, WHOLE, Address, inbox, is_client_id
from ..protocol.routing import delivered_type, resolve
from ..protocol.values import is_printable, wrong_with

logger = logging.getLogger("arqonbus.publishing")

_NOBODY: Mapping[str, bool] = {}


class Published(msgspec.Struct, frozen=True):
    """Where a message is: ``seq`` is None on an ephemeral channel, and inside a transaction with ``durable=False``.

    ``unproven``: it is a letter to a client that is away, and gets it only if it brings its resume token.
    """

    id: str
    room: str
    channel: str
    seq: int | None
    duplicate: bool = False
    unproven: bool = False


def publish(
    address: str | Address,
    payload: dict[str, Any] | None = None,
    *,
    message: str | None = None,
    type: str = "event",
    id: str | None = None,
    metadata: dict[str, Any] | None = None,
    actor: Actor = SYSTEM,
    durable: bool = True,
) -> Published:
    """Publish to ``room:channel``, ``room:*`` (or just ``room``), ``*:*`` or ``pm:<client_id>``.

    ``payload`` is a JSON object, ``message`` a text, or both. ``id`` makes a repeat recognisable for the window of the
    setting. ``durable=True`` writes the row in the caller's transaction; subscribers hear of it after the commit, and if
    this process dies in between, the servers' look at the log rings the bell. ``durable=False`` writes after the commit.
    Raises ``BusError`` INVALID_NAME, CHANNEL_NOT_FOUND, TARGET_NOT_FOUND (the inbox of a client that was never here),
    FORBIDDEN, VALIDATION_ERROR, and OUTCOME_UNKNOWN when the database was lost while it committed; the database's own error
    when it was lost before.
    """
    address = _target(address)
    waiting = known([address.channel]) if address.is_inbox else {}
    if address.is_inbox and not waiting:
        # Whoever took the id first would read it.
        raise target_not_found([address.channel], 1)
    inbound = _inbound(payload, message, type=type, id=id)
    if metadata is not None:
        inbound.metadata = _encoded(metadata, "metadata")
    return publish_all([(address, inbound)], actor=actor, durable=durable, waiting=waiting)[0]


def _target(address: str | Address) -> Address:
    """The log that a caller means, its names held to the rules of every door. Raises ``BusError`` INVALID_NAME."""
    if isinstance(address, Address):
        address = str(address) if all(address) else ""
    if not address:
        # A frame without an address goes to its client's initial channel; Django code has none.
        raise BusError(
            ErrorCode.INVALID_NAME,
            "Publish where? The address, or a part of it, is empty; it is room:channel.",
            [{"field": "address"}],
        )
    return resolve(address, None, EVERYONE)


def publish_all(
    items: Sequence[tuple[Address, Inbound]],
    *,
    actor: Actor,
    durable: bool = True,
    create: bool = True,
    may_wait: bool = False,
    waiting: Mapping[str, bool] = _NOBODY,
    new_sender: bool = False,
) -> list[Published]:
    """Publish several messages in one transaction and in their order. Raises as :func:`publish`, before any is written.

    ``waiting`` is what ``clients.known`` said of the clients whose inboxes are among them.
    With ``may_wait`` the caller can come back: raises ``BusError`` BUSY when an ephemeral message would not reach the other
    processes now. Without, it reaches those of this one: no business of the caller's fails for it. A ``new_sender`` takes its
    client id with the messages (``clients.take_id``), once it is known that it may write them.
    """
    late = not durable and connection.in_atomic_block
    refs = find_all({address for address, _ in items})
    # What is hidden is looked for like what is missing, so that both are refused after the same work.
    hidden = {
        address for address, ref in refs.items() if ref.private and not can(actor, PUBLISH, address, private=True)
    }
    missing = [
        address
        for address in dict.fromkeys(address for address, _ in items)
        if address not in refs or address in hidden
    ]
    # One message for a channel that is there needs no transaction but the log's own, which waits for nobody.
    with _own_transaction() if missing or new_sender or (len(items) > 1 and not late) else _told():
        refs.update((address, _made(address, actor, create=create)) for address in missing)
        made = [_entry(refs[address], inbound, actor) for address, inbound in items]
        if may_wait and any(ref.ephemeral for ref, _ in made) and broker.crowded():
            raise BusError(ErrorCode.BUSY, retry_after=0.1)
        _check_passing([entry for _, entry in made])
        if new_sender:
            take_id(actor)
        kept = [entry for _, entry in made if entry.channel_id > 0 and not entry.context.ephemeral]
        if kept and not late:
            append_batch(kept, window=config().idempotency_window)
            for entry in kept:
                if entry.error is not None:
                    raise entry.error
        everything = [entry for _, entry in made]
        transaction.on_commit(lambda: _append_late(everything, kept) if late else _announce(everything))
    return [
        Published(
            entry.uid,
            ref.address.room,
            ref.address.channel,
            entry.seq,
            entry.duplicate,
            ref.address.is_inbox and waiting.get(ref.address.channel, False),
        )
        for ref, entry in made
    ]


def _made(address: Address, actor: Actor, *, create: bool) -> ChannelRef:
    """The channel, made if it may be. Raises ``BusError`` for one that is missing or hidden."""
    ref, _ = ensure(address, actor, create=create, action=PUBLISH)
    if ref.private:
        require(actor, PUBLISH, address, private=True)
    return ref


@contextmanager
def _told() -> Iterator[None]:
    """A commit in doubt is told in the contract's words."""
    try:
        yield
    except CommitInDoubt as problem:
        raise BusError(ErrorCode.OUTCOME_UNKNOWN, retry_after=1.0) from problem


@contextmanager
def _own_transaction() -> Iterator[None]:
    """A transaction, or a part of the caller's; its own commit, should it be in doubt, is told as :func:`_told` does."""
    outermost = not connection.in_atomic_block
    committing = False
    try:
        with transaction.atomic():
            yield
            committing = outermost
    except DatabaseError as problem:
        # What the database refuses by its rules is undone for sure.
        if committing and connection.vendor == "postgresql" and not isinstance(problem, IntegrityError):
            raise BusError(ErrorCode.OUTCOME_UNKNOWN, retry_after=1.0) from problem
        raise


def _append_late(entries: list[Entry], kept: list[Entry]) -> None:
    if kept:
        with _told():
            append_batch(kept, window=config().idempotency_window)
        for entry in kept:
            if entry.error is not None:
                # Its transaction is over: there is nobody to raise it to.
                logger.error(
                    "a message could not be published after the commit: %s",
                    entry.error.message,
                    extra={"event": "append_failed", "channel_id": entry.channel_id},
                )
    _announce(entries)


def _entry(ref: ChannelRef, inbound: Inbound, actor: Actor) -> tuple[ChannelRef, Entry]:
    address = ref.address
    inbound.type = delivered_type(inbound.type, address)
    require_admin_for(actor, inbound.type, address)
    require(actor, PUBLISH, address, private=ref.private)
    sender = actor.client_id or actor.name
    if not is_client_id(sender):
        # A token's or user's name can be any text; on the wire a sender is a client_id.
        raise BusError(ErrorCode.VALIDATION_ERROR, f"{sender[:64]!r} cannot be a sender.", [{"field": "client_id"}])
    uid = frames.message_uid(inbound.id) if inbound.id else new_uid()
    head, tail = frames.message_parts(inbound, address, sender, uid)
    key = frames.publish_key(sender, inbound.id, address) if inbound.id else None
    return ref, Entry(ref.id, head, tail, uid=uid, type=inbound.type, sender=sender, key=key, context=ref)


def _passed() -> Passed:
    """What this process remembers of messages of ephemeral channels."""
    passed: Passed = apps.get_app_config("bus").passed  # type: ignore[attr-defined]
    return passed


def _check_passing(entries: Sequence[Entry]) -> None:
    """Raise ``BusError`` VALIDATION_ERROR for an id that its sender used for another ephemeral channel's message."""
    here: dict[str, int] = {}
    for entry in entries:
        if entry.key is not None and entry.context.ephemeral:
            before = _passed().channel_of(entry.key) or here.setdefault(entry.key, entry.channel_id)
            if before != entry.channel_id:
                raise id_taken()


def _announce(entries: Sequence[Entry]) -> None:
    """After the commit: ring the bell for what is new."""
    published: list[tuple[int, str, str, str, int, bytes]] = []
    passing = bells.Passing([], [])
    for entry in entries:
        ref: ChannelRef = entry.context
        if ref.ephemeral:
            if entry.key is not None and _passed().admit(entry.key, ref.id) is not None:
                entry.duplicate = True
                continue
            stamp = (wire_time(timezone.now()) or "").encode()
            passing.frames.append((ref.id, frames.finish_message(entry.head, entry.tail, stamp, None)))
            passing.keys.append(entry.key or "")
        elif entry.error is None and not entry.duplicate and entry.seq is not None:
            published.append((ref.id, ref.address.room, ref.address.channel, entry.epoch, entry.seq, entry.frame))
    if published:
        broker.ring(bells.Published(published))
        signals.message_published.send_robust(
            Published, messages=[(Address(row[1], row[2]), row[4], row[5]) for row in published]
        )
    if passing.frames:
        broker.ring(passing)


def broadcast_to_channel(
    room: str,
    channel: str,
    payload: dict[str, Any] | None = None,
    *,
    message: str | None = None,
    **options: Any,
) -> Published:
    """Publish to one channel; ``options`` as for :func:`publish`."""
    return publish(Address(room, channel), payload, message=message, **options)


def broadcast_to_room(
    room: str, payload: dict[str, Any] | None = None, *, message: str | None = None, **options: Any
) -> Published:
    """Publish to everybody in any channel of a room, each once; ``options`` as for :func:`publish`."""
    return publish(Address(room, WHOLE), payload, message=message, **options)


def send_private(
    targets: str | Iterable[str],
    payload: dict[str, Any] | None = None,
    *,
    message: str | None = None,
    id: str | None = None,
    actor: Actor = SYSTEM,
) -> list[Published]:
    """Put a private message into the inbox of each target. Raises ``BusError`` TARGET_NOT_FOUND when none is known.

    Unknown targets among known ones are left out; compare the result with what was asked for.
    """
    wanted = [targets] if isinstance(targets, str) else list(dict.fromkeys(targets))
    there = known(wanted)
    if not there:
        raise target_not_found(wanted, len(wanted))
    inbound = _inbound(payload, message, type="private", id=id)
    items = [(inbox(target), inbound) for target in wanted if target in there]
    return publish_all(items, actor=actor, waiting=there)


def _inbound(payload: dict[str, Any] | None, message: str | None, *, type: str, id: str | None) -> Inbound:
    """A message of Django code in canonical form. Raises ``BusError`` VALIDATION_ERROR."""
    for field, text, longest in (("type", type, 64), ("id", id, 128)):
        if not (is_printable(text, longest) or (field == "id" and not text)):
            message_ = f"`{field}` is 1 to {longest} printable characters long."
            raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": message_}])
    inbound = Inbound(kind=KIND_PUBLISH, type=type, id=id)
    if payload is not None:
        inbound.payload = _encoded(payload, "payload")
        if not inbound.payload.startswith(b"{"):
            raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": "payload", "message": PAYLOAD_RULE}])
    if message is not None:
        inbound.message = _encoded(message, "message")
        inbound.payload = inbound.payload or b'{"message":%b}' % inbound.message
    return inbound


def new_uid() -> str:
    """A fresh ``arq_…`` id."""
    return f"arq_{uuid.uuid4().hex}"


def _encoded(value: Any, field: str) -> bytes:
    data, fault = b"", None
    try:
        data = frames.encode(value)
        # A frame is one level deeper.
        fault = wrong_with(data, config().frame_depth - 1)
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        fault = str(problem)[:200]
    if fault is not None:
        raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": fault}])
    return data


apublish = sync_to_async(publish, thread_sensitive=True)
abroadcast_to_channel = sync_to_async(broadcast_to_channel, thread_sensitive=True)
abroadcast_to_room = sync_to_async(broadcast_to_room, thread_sensitive=True)
asend_private = sync_to_async(send_private, thread_sensitive=True)
