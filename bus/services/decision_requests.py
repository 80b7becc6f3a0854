"""Requests for decisions: the question to people, under the asker's own key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.db import IntegrityError, connection
from django.db.models import Q
from django.utils import timezone

from .. import shapes
from ..auth.permissions import PUBLISH, SYSTEM, Actor, checked, require
from ..directory.channels import ChannelRef, ensure
from ..directory.clients import take_id
from ..models import Decision, digest, wire_time
from ..monitoring import metrics
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from ..protocol.routing import channel_not_found
from ..protocol.values import is_printable
from ..publishing import commit
from ..publishing import django as publishing
from ..publishing.plan import sender_of
from . import audit, decision_schemas
from .decision_rows import (
    APPROVE,
    PENDING,
    REJECT,
    REJECTED,
    REQUESTED,
    STATE_AT_EXPIRY,
    STATE_OF,
    USABLE,
    expire,
    is_late,
    lock_channel,
    may_look,
    rows,
    shape_of,
)
from .decision_values import invalid, object_of

#: The longest texts, in characters.
LONGEST_KEY, LONGEST_TITLE, LONGEST_ACTION = 128, 200, 128
#: The bounds of the time to decide, in seconds.
SHORTEST, LONGEST = 1.0, 30 * 86400.0
#: Seconds after a "no" in which the same key, action and arguments are refused.
NO_LASTS = 3600.0
#: Seconds after its end for which an answer that was not used is found by its key.
ANSWER_LASTS = 7 * 86400.0
#: Pending decisions of a channel, of one asker, and of all anonymous askers of a channel. The last ones count for an hour more.
MOST_IN_CHANNEL, MOST_OF_ASKER, MOST_OF_STRANGERS = 10_000, 1000, 100


def request_decision(
    address: str | Address,
    *,
    key: str,
    title: str,
    action: str,
    args: dict[str, Any] | None = None,
    allow: Sequence[str] = (APPROVE, REJECT),
    schema: dict[str, Any] | None = None,
    expires: float | timedelta = 3600.0,
    on_expiry: str = "reject",
    actor: Actor = SYSTEM,
    new_sender: bool = False,
    door: str = "code",
) -> shapes.Decision:
    """Ask the people of a channel whether ``actor`` may do an action. Needs the right to publish there.

    ``title`` is the question in one line, and ``action`` with the object ``args`` is what the actor will do. ``allow`` are the
    answers that people may give, and ``schema`` is a JSON Schema for arguments that they edit. After ``expires`` (seconds, or
    a ``timedelta``) it ends as ``on_expiry`` says: ``reject``, ``approve`` or ``none``.

    ``key`` is the actor's own name of the question. The same key, action and arguments give the same decision while it is
    pending, and an answer that was not consumed. With ``new_sender`` the actor takes its client id in the same transaction.

    Raises ``BusError`` VALIDATION_ERROR, INVALID_NAME, CHANNEL_NOT_FOUND, FORBIDDEN, LIMIT_REACHED, CLIENT_ID_IN_USE, and
    REJECTED_BEFORE if a person said no to the same within the last hour.
    """
    where = publishing.address_of(address)
    checked(actor)
    asked = Asked(where, key, title, action, args or {}, tuple(allow), schema, expires, on_expiry)
    return ask(asked, actor, new_sender=new_sender, door=door)[0]


def ask(asked: Asked, actor: Actor, *, new_sender: bool = False, door: str) -> tuple[shapes.Decision, bool]:
    """As :func:`request_decision`. Return the decision, and whether it is a new one."""
    asked.check()
    transaction_is_ours = not connection.in_atomic_block
    attempt = 1
    while True:
        try:
            with commit.one_transaction():
                if new_sender:
                    take_id(actor)
                return _request(asked, actor, door)
        except IntegrityError:
            # The actor asked with the key in another channel at this moment.
            if not transaction_is_ours or attempt == 3:
                raise
            attempt += 1


class Asked(msgspec.Struct):
    """What an asker sent. The fields are those of :func:`request_decision`."""

    address: Address
    key: str
    title: str
    action: str
    args: dict[str, Any] = {}
    allow: tuple[str, ...] = (APPROVE, REJECT)
    schema: dict[str, Any] | None = None
    expires: float | timedelta = 3600.0
    on_expiry: str = REJECT
    raw: bytes = b""

    @property
    def digest(self) -> str:
        """Of the key, the action and the arguments, in whatever order their names stand."""
        args = msgspec.json.encode(self.args, order="sorted")
        return digest("\n".join((self.key, self.action, args.decode())))

    @property
    def seconds(self) -> float:
        """The time to decide."""
        return self.expires.total_seconds() if isinstance(self.expires, timedelta) else self.expires

    def check(self) -> None:
        """Raise ``BusError`` VALIDATION_ERROR with each fault."""
        faults = []
        if not self.address.is_channel:
            faults.append(("channel", "People decide in a channel: `room:channel`."))
        longest = {"key": LONGEST_KEY, "title": LONGEST_TITLE, "action": LONGEST_ACTION}
        for field, most in longest.items():
            if not is_printable(getattr(self, field), most):
                faults.append((field, f"`{field}` is 1 to {most} printable characters long."))
        if not self.allow or len(set(self.allow)) < len(self.allow) or not set(self.allow) <= STATE_OF.keys():
            faults.append(("allow", f"`allow` lists some of {', '.join(STATE_OF)}, each once."))
        if not SHORTEST <= self.seconds <= LONGEST:
            faults.append(("expires", f"`expires` is from {SHORTEST:g} to {LONGEST:g} seconds."))
        if self.on_expiry not in STATE_AT_EXPIRY:
            faults.append(("on_expiry", f"`on_expiry` is one of {', '.join(STATE_AT_EXPIRY)}."))
        if faults:
            raise invalid(*faults)
        self.raw = object_of(self.args, "args")
        if self.schema is not None:
            object_of(self.schema, "schema")
            decision_schemas.checked(self.schema)


def _request(asked: Asked, actor: Actor, door: str) -> tuple[shapes.Decision, bool]:
    sender = sender_of(actor)
    ref = _channel(asked.address, actor)
    # Requests of one channel come one after another, so each counts the others.
    if not lock_channel(ref.id):
        raise channel_not_found(asked.address)
    before = _before(asked, actor, sender, ref)
    if before is not None:
        return shape_of(before, actor), False
    _check_limits(actor, sender, ref)
    now = timezone.now()
    row = Decision.objects.create(
        channel_id=ref.id,
        key=asked.key,
        digest=asked.digest,
        title=asked.title,
        action=asked.action,
        args=asked.raw.decode(),
        allow=list(asked.allow),
        schema=asked.schema,
        created_at=now,
        expires_at=now + timedelta(seconds=asked.seconds),
        on_expiry=asked.on_expiry,
        client_id=sender,
        principal=actor.principal,
    )
    row = rows().get(pk=row.pk)
    # The right was checked. The message is the server's own word about its row, said in the asker's name.
    told = publishing.publish(
        asked.address,
        {"decision": msgspec.to_builtins(shape_of(row))},
        type=REQUESTED,
        actor=msgspec.structs.replace(SYSTEM, client_id=sender),
    )
    row.seq = told.seq
    row.save(update_fields=["seq"])
    audit.record(
        actor, door, "request_decision", row.uid, address=str(asked.address), expires_at=wire_time(row.expires_at)
    )
    return shape_of(row, actor), True


def _channel(address: Address, actor: Actor) -> ChannelRef:
    """Return the channel, where ``actor`` may publish. Raises ``BusError``."""
    ref, _ = ensure(address, actor, action=PUBLISH)
    require(actor, PUBLISH, address, private=ref.private)
    if ref.work is not None:
        raise invalid(("channel", "The messages of a work channel are jobs. Ask in another channel."))
    return ref


def _before(asked: Asked, actor: Actor, sender: str, ref: ChannelRef) -> Decision | None:
    """Return the decision that the actor has under the key already, or None.

    Raises ``BusError`` VALIDATION_ERROR for a pending one about something else, and REJECTED_BEFORE.
    """
    own = rows().filter(principal=actor.principal, client_id=sender, key=asked.key)
    pending = own.filter(state=PENDING).first()
    # A late one of another channel ends with the next sweep: two rows of channels are not locked here.
    if pending is not None and (pending.channel_id != ref.id or not is_late(pending)):
        if pending.channel_id != ref.id or pending.digest != asked.digest:
            message = "You asked something else with this key, and it is pending."
            raise BusError(
                ErrorCode.VALIDATION_ERROR, message, [{"field": "key", "message": message, "decision": pending.uid}]
            )
        return pending
    if pending is not None:
        expire(pending)
    since = timezone.now() - timedelta(seconds=NO_LASTS)
    no = rows().filter(digest=asked.digest, state=REJECTED, ended_at__gt=since, principal=actor.principal)
    refused = no.exclude(answer="").order_by("-ended_at").first()
    if refused is not None:
        raise _rejected_before(refused, actor)
    unused = own.filter(digest=asked.digest, channel_id=ref.id, state__in=USABLE, consumed_at=None)
    return unused.filter(ended_at__gt=timezone.now() - timedelta(seconds=ANSWER_LASTS)).order_by("-pk").first()


def _rejected_before(row: Decision, actor: Actor) -> BusError:
    """The error for who got this "no". All anonymous askers count as one, so another one learns nothing of a hidden channel."""
    if not may_look(actor, row):
        return BusError(ErrorCode.REJECTED_BEFORE)
    told = {"decision": row.uid, "comment": row.comment, "by": row.decider, "at": wire_time(row.ended_at)}
    return BusError(ErrorCode.REJECTED_BEFORE, details=[told])


def _check_limits(actor: Actor, sender: str, ref: ChannelRef) -> None:
    if actor.system:
        return
    here = Decision.objects.filter(channel_id=ref.id, state=PENDING)
    counts = [(here, MOST_IN_CHANNEL)]
    if actor.anonymous:
        # Those that nobody answered count for an hour more. Otherwise short ones would fill the tables.
        lately = Q(state=PENDING) | Q(ended_at__gt=timezone.now() - timedelta(seconds=NO_LASTS))
        theirs = Decision.objects.filter(lately, channel_id=ref.id, principal="", answer="")
        counts.append((theirs, MOST_OF_STRANGERS))
    else:
        counts.append((Decision.objects.filter(principal=actor.principal, state=PENDING), MOST_OF_ASKER))
    for found, most in counts:
        if found[:most].count() >= most:
            metrics.limits.labels("decisions").inc()
            raise BusError(
                ErrorCode.LIMIT_REACHED,
                f"There are {most} pending decisions already. Let some of them end.",
                [{"limit": "decisions", "value": most}],
            )


arequest_decision = sync_to_async(request_decision, thread_sensitive=True)
