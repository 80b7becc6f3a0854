"""The end of decisions that nobody made in time, and of those whose asker is gone."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple

from django.db import OperationalError, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from ..models import Decision
from ..protocol.errors import BusError
from .decision_rows import CANCELLED, PENDING, expire, is_late, locked
from .patience import is_locked

logger = logging.getLogger("arqonbus.decisions")

#: Decisions that one sweep ends, each in a transaction of its own.
SWEPT = 50
#: Seconds to wait for the row of a channel: others that are due wait meanwhile.
BRIEF = 0.2
#: Seconds for which an ended decision that no person answered is kept at least. Its asker may be away.
KEPT = 7 * 86400.0
#: Who owns the decisions of a client whose id somebody else got: nobody.
NOBODY = "-"


class Look(NamedTuple):
    """What a look at the pending decisions found: some that are ``overdue``, and which of the asked-for rows have ``ended``."""

    overdue: bool
    ended: set[int]


def look(waiting: Collection[int]) -> Look:
    """Look whether the time of a decision is over, and which of the decisions ``waiting``, by row, have ended. It only reads."""
    overdue = Decision.objects.filter(state=PENDING, expires_at__lte=Now()).exists()
    ended: set[int] = set()
    if waiting:
        still = Decision.objects.filter(pk__in=waiting, state=PENDING).values_list("pk", flat=True)
        ended = set(waiting) - set(still)
    return Look(overdue, ended)


def sweep() -> int:
    """End the decisions whose time is over, at most :data:`SWEPT`. Return how many ended.

    Every process may call this at the same time, and a decision ends once. Those of a channel whose row somebody holds, or
    that refuses the message, wait for the next sweep. The others do not wait for them.
    """
    ended, left_out = 0, set[int]()
    while ended < SWEPT:
        late = Decision.objects.filter(state=PENDING, expires_at__lte=Now()).exclude(channel_id__in=left_out)
        found = late.order_by("expires_at", "pk").values_list("uid", "channel_id").first()
        if found is None:
            break
        uid, channel_id = found
        if _ended(uid):
            ended += 1
        else:
            left_out.add(channel_id)
    return ended


def _ended(uid: str) -> bool:
    """End a decision whose time is over. Return False if its channel has to wait. Raises the database's error."""
    try:
        with transaction.atomic():
            row = locked(uid, wait=BRIEF)
            if row is not None and is_late(row):
                expire(row)
    except OperationalError as problem:
        if not is_locked(problem):
            raise
        return False
    except BusError as problem:
        logger.error("cannot end the decision %s: %s", uid, problem.code, extra={"event": "expiry_failed"})
        return False
    return True


def wanted() -> QuerySet[Decision]:
    """Return the decisions that somebody may still wait for: the pending ones, and those that ended lately."""
    return Decision.objects.filter(Q(state=PENDING) | Q(ended_at__gt=Now() - timedelta(seconds=KEPT)))


def disown(client_ids: Collection[str]) -> set[str]:
    """Take their decisions from these anonymous clients: somebody else got their ids without a proof.

    Nobody gets the answers. Call it in the transaction of the claims. It waits for no lock. Returns the clients with a decision
    whose row is locked.
    """
    theirs = Decision.objects.filter(client_id__in=client_ids, principal="")
    askers = dict(theirs.values_list("pk", "client_id"))
    if not askers:
        return set()
    locking = theirs.filter(pk__in=askers).order_by("pk").select_for_update(no_key=True, skip_locked=True)
    free = set(locking.values_list("pk", flat=True))
    mine = Decision.objects.filter(pk__in=free)
    mine.filter(state=PENDING).update(state=CANCELLED, ended_at=Now())
    mine.update(principal=NOBODY)
    return {name for key, name in askers.items() if key not in free}


def forget(age: float, most: int) -> int:
    """Remove decisions that no person answered and that ended long ago. Return how many, at most ``most``.

    ``age`` is the least time since the end in seconds; it is at least :data:`KEPT`. Answers of people stay with their channel.
    """
    old = Decision.objects.filter(answer="", ended_at__lte=Now() - timedelta(seconds=max(age, KEPT)))
    deleted, _ = Decision.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:most])).delete()
    return deleted
