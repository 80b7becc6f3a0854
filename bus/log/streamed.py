"""Streams in the log: their states and contents, as the database has them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from ..models import Stream
from .effects import OPEN, TEXT, StreamState

_FIELDS = (
    "id", "uid", "channel_id", "seq", "mode", "state", "have", "attempt", "client_id", "principal", "rest",
    "stop_requested_at", "steers", "end_seq",
)  # fmt: skip


def states(rows: QuerySet[Stream]) -> list[StreamState]:
    """Return the states of the streams that a query finds."""
    return [_state(row) for row in rows.values_list(*_FIELDS)]


def _state(row: tuple[Any, ...]) -> StreamState:
    state = StreamState(*row)
    return state._replace(stopping=state.state == OPEN and state.stopping is not None)


def state_of(of: str) -> StreamState | None:
    """Return the stream whose opening has the uid ``of``; None without such a stream."""
    return next(iter(states(Stream.objects.filter(uid=of))), None)


def open_in(channel_ids: Collection[int]) -> list[StreamState]:
    """Return the open streams of some channels, in the order of their openings."""
    return states(Stream.objects.filter(channel_id__in=channel_ids, state=OPEN).order_by("channel_id", "seq"))


def streams_moved_since(moment: datetime) -> list[StreamState]:
    """Return the streams that were opened, appended to, adopted or ended since ``moment``.

    Open streams that were asked to stop, or that have open steers, are always among them.
    """
    waits = Q(stop_requested_at__isnull=False) | Q(steers__gt=0)
    moved = Q(state=OPEN) & (Q(touched_at__gte=moment) | waits) | Q(ended_at__gte=moment)
    return states(Stream.objects.filter(moved).order_by("id"))


def disown(client_ids: Collection[str]) -> set[str]:
    """Take the open streams of these clients from them: somebody else got their ids without a proof.

    The streams have no owner then, and end after the grace. Call it in the transaction of the claims. It waits for no lock.
    Returns the clients with a stream whose row is locked. Their streams stay as they are.
    """
    theirs = Stream.objects.filter(client_id__in=client_ids, state=OPEN, rest=False)
    owners = dict(theirs.values_list("pk", "client_id"))
    if not owners:
        return set()
    locking = theirs.filter(pk__in=owners).order_by("id").select_for_update(no_key=True, skip_locked=True)
    free = set(locking.values_list("pk", flat=True))
    held = {name for key, name in owners.items() if key not in free}
    taken = [key for key, name in owners.items() if name not in held]
    Stream.objects.filter(pk__in=taken).update(client_id="", gone_at=timezone.now())
    return held


def joined(mode: str, pieces: Iterable[bytes]) -> bytes:
    """Return pieces of a stream's content as one: bodies of JSON strings, or JSON values."""
    return (b"" if mode == TEXT else b",").join(pieces)
