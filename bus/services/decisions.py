"""Decisions: decide, use the answer, and withdraw the question. Every door calls these functions.

A decision is a row, so asker, decider and server may restart. The row of its channel is locked before its own row, so of two
answers, or of an answer and the expiry, one counts.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from .. import shapes
from ..auth import identity
from ..auth.permissions import MANAGE, SYSTEM, Actor, can, checked, table
from ..models import Decision, wire_time
from ..protocol.errors import BusError, ErrorCode
from ..publishing import commit
from ..publishing import django as publishing
from . import audit, decision_schemas
from .decision_rows import (
    CANCELLED,
    EDIT,
    PENDING,
    RESPOND,
    STATE_OF,
    USABLE,
    end,
    ended_before,
    expire,
    find,
    has_right,
    is_asker,
    is_late,
    locked,
    may_look,
    not_found,
    shape_of,
)
from .decision_values import invalid, object_of

#: The longest comment, in characters.
LONGEST_COMMENT = 2000


def decision(uid: str, *, actor: Actor = SYSTEM) -> shapes.Decision:
    """Return a decision as it is now. Raises ``BusError`` DECISION_NOT_FOUND, also for one that ``actor`` may not see."""
    return shape_of(find(checked(actor), uid), actor)


# --- decide ---------------------------------------------------------------------------------------------------------------


def decide(
    decision: str,
    answer: str,
    *,
    args: dict[str, Any] | None = None,
    comment: str = "",
    actor: Actor,
    door: str = "code",
    same: bool = False,
) -> shapes.Decision:
    """Decide as ``actor``, a person with the right ``decide`` in the channel, and not the asker. The first answer counts.

    ``answer`` is ``approve``, ``reject``, ``edit`` with ``args``, or ``respond`` with a ``comment``. A repeat of the same person
    has the same result, also with another answer; with ``same`` another answer is DECISION_ENDED, which pages of people show.
    The right is read in the transaction, so a withdrawn one counts at once.

    Raises ``BusError`` DECISION_NOT_FOUND, FORBIDDEN, DECISION_ENDED with how and by whom, and VALIDATION_ERROR for an answer
    that is not allowed or for wrong arguments.
    """
    checked(actor)
    given = None if args is None else object_of(args, "args")
    _check_answer(answer, given, comment)
    if actor.bearer:
        # The project's own function may be slow, and may fail in the database. So it is asked before any row is locked.
        actor = _renewed(actor)
    with commit.one_transaction():
        row = _locked(actor, decision)
        if not actor.bearer:
            actor = _renewed(actor)
        _check_decider(actor, row)
        if is_late(row):
            expire(row)
        elif row.state == PENDING:
            if answer not in row.allow:
                raise invalid(("answer", f"The asker allows {', '.join(row.allow)}."))
            if given is not None:
                decision_schemas.check(row.schema, args or {})
            row.answer, row.comment = answer, comment
            row.answer_args = None if given is None else given.decode()
            row.decider, row.decider_principal = _name(actor), actor.principal
            end(row, STATE_OF[answer])
            audit.record(
                actor, door, "decide", row.uid, answer=answer, asker=row.client_id, address=str(row.channel.address)
            )
            return shape_of(row, actor)
    # Outside of the transaction, so that the end of its time counts.
    if row.answer and row.decider_principal == actor.principal and (row.answer == answer or not same):
        return shape_of(row, actor)
    raise ended_before(row)


def _check_answer(answer: str, given: bytes | None, comment: str) -> None:
    faults = []
    if answer not in STATE_OF:
        faults.append(("answer", f"`answer` is one of {', '.join(STATE_OF)}."))
    if (given is not None) != (answer == EDIT):
        faults.append(("args", "`edit` needs `args`, the arguments as you want them. No other answer has them."))
    if len(comment) > LONGEST_COMMENT or "\x00" in comment:
        faults.append(("comment", f"`comment` is a text of at most {LONGEST_COMMENT} characters without NUL."))
    elif answer == RESPOND and not comment.strip():
        faults.append(("comment", "`respond` needs a `comment`, which is the answer."))
    else:
        publishing.encoded(comment, "comment")
    if faults:
        raise invalid(*faults)


def _locked(actor: Actor, uid: str) -> Decision:
    """Return a decision that ``actor`` may see, locked. Raises ``BusError`` DECISION_NOT_FOUND."""
    # At first without a lock: nobody holds up what it may not see.
    find(checked(actor), uid)
    row = locked(uid)
    if row is None or not may_look(actor, row):
        raise not_found(uid)
    return row


def _renewed(actor: Actor) -> Actor:
    """Return the actor with its rights of this moment. Raises ``BusError`` REVOKED or UNAUTHENTICATED."""
    now = identity.renewed([actor])[0]
    if isinstance(now, BusError):
        raise now
    return now


def _check_decider(actor: Actor, row: Decision) -> None:
    if is_asker(actor, row) and not actor.system:
        raise BusError(ErrorCode.FORBIDDEN, "You asked this, so somebody else decides.", [{"decision": row.uid}])
    if not has_right(actor, row, table().fresh()):
        raise BusError(
            ErrorCode.FORBIDDEN,
            f"You may not decide in {row.channel.address}.",
            [{"action": "decide", "address": str(row.channel.address)}],
        )


def _name(actor: Actor) -> str:
    return (actor.name or actor.client_id)[:150]


# --- use, withdraw --------------------------------------------------------------------------------------------------------


def consume_decision(decision: str, *, actor: Actor = SYSTEM, door: str = "code") -> shapes.Decision:
    """Use the answer of a decision, as its asker, once. Call it before the action.

    Raises ``BusError`` DECISION_NOT_FOUND, FORBIDDEN for another one than the asker, ALREADY_USED the second time, and
    VALIDATION_ERROR for a decision without an answer to use.
    """
    with commit.one_transaction():
        row = _locked(actor, decision)
        if not is_asker(actor, row):
            raise BusError(ErrorCode.FORBIDDEN, "Only the asker uses the answer.", [{"decision": row.uid}])
        if is_late(row):
            expire(row)
        if row.state in USABLE and row.consumed_at is None:
            row.consumed_at = timezone.now()
            row.save(update_fields=["consumed_at"])
            audit.record(actor, door, "consume_decision", row.uid)
            return shape_of(row, actor)
    if row.consumed_at is not None:
        raise BusError(
            ErrorCode.ALREADY_USED, details=[{"decision": row.uid, "consumed_at": wire_time(row.consumed_at)}]
        )
    message = f"There is no answer to use: the decision is {row.state}."
    raise BusError(
        ErrorCode.VALIDATION_ERROR,
        message,
        [{"field": "decision", "message": message, "decision": row.uid, "state": row.state}],
    )


def cancel_decision(decision: str, *, actor: Actor = SYSTEM, door: str = "code") -> shapes.Decision:
    """Withdraw a pending question: as its asker, or with the right ``manage`` in the channel. A repeat has the same result.

    Raises ``BusError`` DECISION_NOT_FOUND, FORBIDDEN, or DECISION_ENDED.
    """
    with commit.one_transaction():
        row = _locked(actor, decision)
        channel = row.channel
        if not is_asker(actor, row) and not can(actor, MANAGE, channel.address, private=channel.room.private):
            raise BusError(
                ErrorCode.FORBIDDEN, "Only the asker and managers withdraw a question.", [{"decision": row.uid}]
            )
        if is_late(row):
            expire(row)
        elif row.state == PENDING:
            row.decider, row.decider_principal = _name(actor), actor.principal
            end(row, CANCELLED)
            audit.record(actor, door, "cancel_decision", row.uid, asker=row.client_id, address=str(channel.address))
    if row.state == CANCELLED:
        return shape_of(row, actor)
    raise ended_before(row)


adecision = sync_to_async(decision, thread_sensitive=True)
adecide = sync_to_async(decide, thread_sensitive=True)
aconsume_decision = sync_to_async(consume_decision, thread_sensitive=True)
acancel_decision = sync_to_async(cancel_decision, thread_sensitive=True)
