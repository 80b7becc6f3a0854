"""Streams with their whole contents: of open ones from their parts, of ended ones from the messages of their ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec
from django.db import connection
from django.db.models import F

from ..models import Message
from ..protocol.kept import legible
from .effects import OPEN, TEXT, Snapshot, StreamState
from .streamed import joined, state_of
from .streamed_row import Row
from .streamed_sql import STREAMS_OF_VENDOR


class _End(msgspec.Struct):
    """The keys of a ``stream_end`` that have the content, and its payload."""

    message: msgspec.Raw = msgspec.Raw(b'""')
    parts: msgspec.Raw = msgspec.Raw(b"[]")
    payload: msgspec.Raw = msgspec.Raw(b"{}")


class Whole(NamedTuple):
    """A stream with its whole content, and the payload of its end (raw JSON; None while it is open)."""

    snapshot: Snapshot
    payload: bytes | None


_decode = msgspec.json.Decoder(_End).decode


def snapshot(stream_id: int, known: Snapshot | None = None) -> Snapshot | None:
    """Return a stream and its whole content, also after the end; None for a stream that is gone.

    ``known`` is what was read of the stream before. If nothing was added since, that content is returned for one row.
    """
    if known is not None:
        state = state_of(known.state.uid)
        if state is not None and _grown(state) == _grown(known.state):
            return known
    found = wholes([stream_id]).get(stream_id)
    return None if found is None else found.snapshot


def _grown(state: StreamState) -> tuple[int, str, int, int]:
    return state.id, state.state, state.attempt, state.have


def wholes(stream_ids: Collection[int]) -> dict[int, Whole]:
    """Return streams with their whole contents, by their ids. Costs at most two queries."""
    if not stream_ids:
        return {}
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        rows = STREAMS_OF_VENDOR[connection.vendor].snapshots(wrapper.cursor, list(stream_ids))
    found = [(Row(*columns).told(), pieces) for columns, pieces in rows]
    made = {
        state.id: Whole(Snapshot(state, joined(state.mode, pieces)), None)
        for state, pieces in found
        if state.state == OPEN
    }
    made.update(_ended([state for state, _ in found if state.state != OPEN]))
    return made


def _ended(states: Iterable[StreamState]) -> dict[int, Whole]:
    """Read the ends of streams. One whose end is gone from the log is left out."""
    by_id = {state.id: state for state in states}
    if not by_id:
        return {}
    rows = Message.objects.filter(channel__streams__in=list(by_id), seq=F("channel__streams__end_seq"))
    made = {}
    for stream_id, seq, frame in rows.values_list("channel__streams__id", "seq", "frame"):
        end = _decode(legible(frame.encode(), seq))
        state = by_id[stream_id]
        data = bytes(end.message if state.mode == TEXT else end.parts)[1:-1]
        made[stream_id] = Whole(Snapshot(state, data), bytes(end.payload))
    return made
