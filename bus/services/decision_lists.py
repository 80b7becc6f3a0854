"""Lists of decisions, for those who asked, who may see them, and who may decide them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from django.db.models import Q, QuerySet

from .. import shapes
from ..auth.permissions import DECIDE, SYSTEM, Actor
from ..models import Decision
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from .decision_rows import PENDING, is_asker, may_decide, may_look, rows, shape_of
from .visibility import EVERYTHING, channels_for

#: Rows that one page looks at, shown or not.
LOOKED_AT = 500
#: Rows that are read at a time.
READ = 50
#: Bytes of arguments and schemas after which a page ends.
MOST_BYTES = 256 * 1024


class Wanted(NamedTuple):
    """Which decisions a list has. ``place`` is a channel, or a whole room; None is everywhere.

    ``mine`` are those that the actor asked for, and ``to_decide`` the pending ones that it may decide.
    """

    place: Address | None = None
    state: str | None = None
    mine: bool = False
    to_decide: bool = False


ALL = Wanted()


def list_decisions(
    actor: Actor = SYSTEM, wanted: Wanted = ALL, *, limit: int = 50, after: str = ""
) -> tuple[list[shapes.Decision], str | None]:
    """Return the decisions that ``actor`` may see, newest first, and the cursor of the next page (None: the last).

    A page may have fewer rows than ``limit``. Raises ``BusError`` VALIDATION_ERROR for an ``after`` that is no cursor.
    """
    found = _filtered(actor, wanted)
    if after:
        found = found.filter(pk__lt=_place(after))
    seen: list[shapes.Decision] = []
    size = 0
    last: int | None = None
    for count, row in enumerate(_newest(found)):
        if len(seen) == limit or size > MOST_BYTES or count == LOOKED_AT:
            return seen, str(last)
        last = row.pk
        if _shown(actor, row, wanted):
            seen.append(shape_of(row, actor))
            size += 2 * len(row.args) + len(row.answer_args or "") + len(msgspec.json.encode(row.schema))
    return seen, None


def _newest(found: QuerySet[Decision]) -> Iterator[Decision]:
    """Yield rows, newest first. Few are read at a time, because each may have more than 100 kB."""
    rest = found.order_by("-pk")
    while True:
        batch = list(rest[:READ])
        yield from batch
        if len(batch) < READ:
            return
        rest = found.filter(pk__lt=batch[-1].pk).order_by("-pk")


def _filtered(actor: Actor, wanted: Wanted) -> QuerySet[Decision]:
    found = rows()
    if wanted.place is not None:
        found = found.filter(channel__room__name=wanted.place.room)
        if not wanted.place.is_whole_room:
            found = found.filter(channel__name=wanted.place.channel)
    if wanted.state is not None:
        found = found.filter(state=wanted.state)
    if wanted.mine:
        found = found.filter(_own(actor))
    if wanted.to_decide:
        return found.filter(channels_for(actor, (DECIDE,), prefix="channel__"), state=PENDING)
    return visible(actor, found)


def _own(actor: Actor) -> Q:
    return Q(principal=actor.principal) if actor.principal else Q(principal="", client_id=actor.client_id)


def visible(actor: Actor, found: QuerySet[Decision]) -> QuerySet[Decision]:
    """Return those of ``found`` that ``actor`` may see, by its rights in their channels, and those that it asked for."""
    looking = channels_for(actor, prefix="channel__")
    deciding = channels_for(actor, (DECIDE,), prefix="channel__")
    # An empty filter lets everything through, and Django would drop it from an "or".
    return found if EVERYTHING in (looking, deciding) else found.filter(_own(actor) | looking | deciding)


def _shown(actor: Actor, row: Decision, wanted: Wanted) -> bool:
    if wanted.mine and not is_asker(actor, row):
        return False
    return may_decide(actor, row) if wanted.to_decide else may_look(actor, row)


def _place(after: str) -> int:
    if not (after.isascii() and after.isdecimal() and len(after) <= 18):
        message = "`after` must be the `next` of a page."
        raise BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "after", "message": message}])
    return int(after)
