"""Handlers as operators see them: how far they are, and what to do about one that stands still."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Case, Count, F, Q, Sum, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from .. import shapes
from ..auth.permissions import MANAGE, Actor, require
from ..models import Handler, HandlerPosition, wire_time
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from . import audit

#: Seconds without a sign of life after which a handler counts as not running.
GONE_AFTER = 45.0
#: Positions that wait or stand still which :func:`rows` tells of for each handler.
SHOWN = 20

#: How many messages a position is behind.
LAG = Case(When(channel__head__gt=F("seq"), then=F("channel__head") - F("seq")), default=Value(0))


class Figures(NamedTuple):
    """The figures of a handler over all its channels, for metrics."""

    name: str
    lag: int
    handled: int
    failed: int
    lost: int
    waiting: int
    stopped: int
    running: bool


def figures() -> list[Figures]:
    """Return the figures of all handlers, by name."""
    since = timezone.now() - timedelta(seconds=GONE_AFTER)
    totals: Mapping[str, Any] = {
        "lag": Coalesce(
            Sum(Case(When(positions__channel__head__gt=F("positions__seq"),
                          then=F("positions__channel__head") - F("positions__seq")), default=Value(0))), 0),
        "done": Coalesce(Sum("positions__handled"), 0),
        "failures": Coalesce(Sum("positions__failed"), 0),
        "missed": Coalesce(Sum("positions__lost"), 0),
        "waiting": Count("positions", filter=Q(positions__retry_at__isnull=False)),
        "stopped": Count("positions", filter=Q(positions__state=HandlerPosition.State.STOPPED)),
    }  # fmt: skip
    rows = Handler.objects.annotate(**totals).order_by("name").values_list("name", *totals, "seen_at")
    return [Figures._make((*numbers, seen_at >= since)) for *numbers, seen_at in rows]


def rows() -> list[shapes.HandlerState]:
    """Return all handlers with their figures, and their positions that wait for another attempt or stand still."""
    known = {row.name: row for row in figures()}
    found: list[shapes.HandlerState] = []
    for handler in Handler.objects.order_by("name"):
        of_it = known.get(handler.name)
        if of_it is None:
            continue
        troubled = handler.positions.filter(Q(retry_at__isnull=False) | Q(state=HandlerPosition.State.STOPPED))
        found.append(
            shapes.HandlerState(
                name=handler.name,
                pattern=handler.pattern,
                running=of_it.running,
                started_at=wire_time(handler.started_at),
                seen_at=wire_time(handler.seen_at),
                lag=of_it.lag,
                handled=of_it.handled,
                failed=of_it.failed,
                lost=of_it.lost,
                waiting=of_it.waiting,
                stopped=of_it.stopped,
                positions=[
                    shapes.HandlerPosition(
                        room=position.channel.room.name,
                        channel=position.channel.name,
                        seq=position.seq,
                        lag=position.lag,
                        state="stopped" if position.state == HandlerPosition.State.STOPPED else "running",
                        attempt=position.attempt,
                        retry_at=wire_time(position.retry_at),
                        error=position.error,
                    )
                    for position in troubled.annotate(lag=LAG).select_related("channel__room").order_by("id")[:SHOWN]
                ],
            )
        )
    return found


def retry(actor: Actor, name: str, address: Address, *, door: str = "django") -> None:
    """Let a handler try its next message at ``address`` again at once, with all its attempts.

    Needs ``manage`` there. Raises ``BusError`` FORBIDDEN, NOT_FOUND for an unknown handler, or BUSY while it is at work.
    """
    _change(actor, name, address, door, "handler.retry", skipped=0)


def skip(actor: Actor, name: str, address: Address, *, door: str = "django") -> None:
    """Let a handler go on behind its next message at ``address``, which it never handles. Rights and errors as :func:`retry`."""
    _change(actor, name, address, door, "handler.skip", skipped=1)


def forget(actor: Actor, name: str, *, has_function: bool, door: str = "django") -> None:
    """Remove a handler with its positions, because its function is gone. If it runs again, it begins as a new one.

    ``has_function`` says whether the project has a function of this name. Admins only. Raises ``BusError`` FORBIDDEN, NOT_FOUND
    for an unknown handler, or BUSY for one that has a function and that a process runs.
    """
    if not actor.manages:
        raise BusError(ErrorCode.FORBIDDEN, "Only admins of the bus may do this.")
    with transaction.atomic():
        handler = Handler.objects.select_for_update().filter(name=name).first()
        if handler is None:
            raise BusError(ErrorCode.NOT_FOUND, f"There is no handler {name}.")
        left = GONE_AFTER - (timezone.now() - handler.seen_at).total_seconds()
        if has_function and left > 0:
            raise BusError(
                ErrorCode.BUSY,
                f"The handler {name} has a function, and a process runs it. Remove the function, or stop the process and wait "
                f"{GONE_AFTER:.0f} seconds.",
                retry_after=left,
            )
        handler.delete()
        audit.record(actor, door, "handler.forget", name)


def _change(actor: Actor, name: str, address: Address, door: str, action: str, *, skipped: int) -> None:
    with transaction.atomic():
        rows = HandlerPosition.objects.select_related("channel__room").filter(
            handler__name=name, channel__room__name=address.room, channel__name=address.channel
        )
        there = rows.first()
        require(actor, MANAGE, address, private=there is not None and there.channel.room.private)
        if there is None:
            raise BusError(ErrorCode.NOT_FOUND, f"There is no handler {name} at {address}.")
        position = rows.select_for_update(of=("self",), skip_locked=True).first()
        if position is None:
            raise BusError(ErrorCode.BUSY, f"The handler {name} is at work at {address}. Try again.", retry_after=1.0)
        if skipped and position.seq >= position.channel.head:
            raise BusError(ErrorCode.VALIDATION_ERROR, f"The handler {name} has no message to skip at {address}.")
        position.seq += skipped
        position.state = HandlerPosition.State.RUNNING
        position.attempt, position.retry_at, position.error = 0, None, ""
        if skipped:
            # An asynchronous handler that is at work finds that it has lost the position.
            position.holder, position.lease_until = "", None
        position.save(update_fields=["seq", "state", "attempt", "retry_at", "error", "holder", "lease_until"])
        audit.record(actor, door, action, str(address), handler=name, seq=position.seq + 1 - skipped)
