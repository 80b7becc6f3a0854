"""The row of a decision: who may see it, who may decide it, its shape, and its end."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from .. import shapes, signals
from ..auth.permissions import DECIDE, SYSTEM, Actor, Rule, can
from ..models import Channel, Decision, wire_time
from ..notify import dispatch
from ..notify.messages import DecisionsEnded
from ..protocol.errors import BusError, ErrorCode
from ..publishing import django as publishing
from ..shapes.decisions import Answer
from . import audit
from .channels import may_see
from .patience import own_patience

PENDING, APPROVED, REJECTED, EXPIRED, CANCELLED = (
    Decision.State.PENDING.value,
    Decision.State.APPROVED.value,
    Decision.State.REJECTED.value,
    Decision.State.EXPIRED.value,
    Decision.State.CANCELLED.value,
)
#: The answers that a person may give, and the state to which each leads.
APPROVE, EDIT, REJECT, RESPOND = get_args(Answer)
STATE_OF = {
    APPROVE: APPROVED,
    EDIT: Decision.State.EDITED.value,
    REJECT: REJECTED,
    RESPOND: Decision.State.RESPONDED.value,
}
#: What becomes of a decision that nobody made in time.
STATE_AT_EXPIRY = {"reject": REJECTED, "approve": APPROVED, "none": EXPIRED}
#: The states whose answer the asker may use, once.
USABLE = (APPROVED, STATE_OF[EDIT], STATE_OF[RESPOND])

#: Seconds to wait for the row of a channel, which an application may hold in a transaction of its own.
LOCK_WAIT = 5.0

#: The types of the two messages that tell of a decision.
REQUESTED, MADE = "decision_requested", "decision_made"


def not_found(uid: str) -> BusError:
    """Return the error for a decision that there is not, or that the caller may not see."""
    return BusError(ErrorCode.DECISION_NOT_FOUND, details=[{"decision": uid[:80]}])


def ended_before(row: Decision) -> BusError:
    """Return the error for whoever comes too late."""
    by = f" by {row.decider}" if row.decider else ""
    return BusError(
        ErrorCode.DECISION_ENDED,
        f"This came too late: the decision was {row.state}{by} before."
        if row.state != EXPIRED
        else "This came too late: the time of the decision is over.",
        [
            {
                "decision": row.uid,
                "state": row.state,
                "answer": row.answer or None,
                "by": row.decider or None,
                "at": wire_time(row.ended_at),
            }
        ],
    )


# --- rows and rights ------------------------------------------------------------------------------------------------------


def rows() -> QuerySet[Decision]:
    """Return all decisions, each with its channel and ``late``: a pending one whose time is over."""
    late = ExpressionWrapper(Q(state=PENDING, expires_at__lte=Now()), output_field=BooleanField())
    return Decision.objects.select_related("channel__room").annotate(late=late)


def is_late(row: Decision) -> bool:
    """Return whether the time of a pending decision is over, by the clock of the database."""
    return bool(vars(row)["late"])


def find(actor: Actor, uid: str) -> Decision:
    """Return the decision ``uid``. Raises ``BusError`` DECISION_NOT_FOUND, also for one that ``actor`` may not see."""
    row = rows().filter(uid=uid).first() if "\x00" not in uid else None
    if row is None or not may_look(actor, row):
        raise not_found(uid)
    return row


def locked(uid: str, *, wait: float = LOCK_WAIT) -> Decision | None:
    """Return the decision ``uid``, locked until the end of the transaction, or None.

    Raises the database's error if others hold the channel's row for ``wait`` seconds. The row of the channel is locked first,
    as by the message that tells of the end, and by the removal of the channel.
    """
    channel_id = Decision.objects.filter(uid=uid).values_list("channel_id", flat=True).first()
    if channel_id is None:
        return None
    lock_channel(channel_id, wait=wait)
    return rows().select_for_update(of=("self",), no_key=True).filter(uid=uid).first()


def lock_channel(channel_id: int, *, wait: float = LOCK_WAIT) -> bool:
    """Lock the row of a channel until the end of the transaction. Return whether it is there.

    Raises the database's error after ``wait`` seconds.
    """
    # The savepoint keeps the transaction whole, so that the error of the lock is the one that the caller sees.
    with own_patience(wait), transaction.atomic():
        # By its own order the query would join the room, and lock it as well.
        return bool(Channel.objects.filter(pk=channel_id).order_by().select_for_update(no_key=True).values_list("pk"))


def is_asker(actor: Actor, row: Decision) -> bool:
    """Return whether ``actor`` asked. Another client id or token of one principal is the same asker."""
    if row.principal or actor.principal:
        return row.principal == actor.principal
    return bool(actor.client_id) and row.client_id == actor.client_id


def may_look(actor: Actor, row: Decision) -> bool:
    """Return whether ``actor`` may see a decision: its asker, who may see its channel, and who may decide there."""
    return is_asker(actor, row) or may_see(actor, row.channel) or has_right(actor, row)


def has_right(actor: Actor, row: Decision, rules: tuple[Rule, ...] | None = None) -> bool:
    """Return whether ``actor`` has the right to decide in the channel. Nobody without an identity has."""
    private = row.channel.room.private
    return not actor.anonymous and can(actor, DECIDE, row.channel.address, private=private, rules=rules)


def may_decide(actor: Actor, row: Decision) -> bool:
    """Return whether ``actor`` may decide now."""
    return row.state == PENDING and not is_asker(actor, row) and has_right(actor, row)


# --- the shape ------------------------------------------------------------------------------------------------------------


def shape_of(row: Decision, actor: Actor | None = None) -> shapes.Decision:
    """Return a decision as ``actor`` sees it, or as everybody does without one."""
    asked = _object(row.args)
    address = row.channel.address
    return shapes.Decision(
        decision=row.uid,
        room=address.room,
        channel=address.channel,
        key=row.key,
        title=row.title,
        action=row.action,
        args=asked if row.answer_args is None else _object(row.answer_args),
        asked_args=asked,
        allow=row.allow,
        schema=row.schema,
        state=row.state,  # type: ignore[arg-type] # one of the model's choices
        answer=row.answer or None,  # type: ignore[arg-type]
        comment=row.comment,
        asker=row.client_id,
        by=row.decider or None,
        on_expiry=row.on_expiry,  # type: ignore[arg-type]
        created_at=wire_time(row.created_at),
        expires_at=wire_time(row.expires_at),
        ended_at=wire_time(row.ended_at),
        consumed_at=wire_time(row.consumed_at),
        may_decide=msgspec.UNSET if actor is None else may_decide(actor, row),
    )


def _object(text: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


# --- the end --------------------------------------------------------------------------------------------------------------


def end(row: Decision, state: str) -> None:
    """End a locked decision with ``state``, tell the channel, the waiting askers and the signal. Saves all of the row."""
    row.state = state
    row.ended_at = timezone.now()
    told = publishing.publish(
        row.channel.address,
        {"decision": msgspec.to_builtins(shape_of(row))},
        type=MADE,
        actor=SYSTEM,
    )
    row.made_seq = told.seq
    row.save()
    dispatch.notify_on_commit(DecisionsEnded([row.pk]))
    transaction.on_commit(lambda: signals.decision_made.send_robust(Decision, decision=shape_of(row)))


def expire(row: Decision) -> None:
    """End a locked decision whose time is over, as its asker said."""
    end(row, STATE_AT_EXPIRY[row.on_expiry])
    vars(row)["late"] = False
    audit.record(SYSTEM, "server", "expire_decision", row.uid, state=row.state, address=str(row.channel.address))
