"""One look at what moved without a notification: among the logs that a process has open, and in what is new in the database.

The look is one statement. It reads the rows of the open logs by their keys, and what was added to other tables since the last
looks. So it costs what a process has open, and not what the database keeps. No clock decides which logs moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from django.db import connection

from .erasures import LOOK
from .store import Position

#: Seconds for which rows with a smaller key than the newest one may still be committed.
LATE = 60.0


class Floor:
    """The key of a table up to which a process has seen all rows, if no transaction took longer than :data:`LATE`.

    Keys are given out when a row is written, and a transaction may commit much later. So rows above an older floor are
    read again and again until they are old enough.
    """

    def __init__(self) -> None:
        #: None before the first look, which asks for no rows.
        self.value: int | None = None
        self._newest: deque[tuple[float, int]] = deque()

    def saw(self, newest: int, now: float) -> None:
        """Note the largest key of the table at the time ``now``, in seconds."""
        seen = self._newest
        if seen and newest < seen[-1][1]:
            # An older state of the database was restored. It gives out the same keys again.
            seen.clear()
            self.value = None
        seen.append((now, newest))
        while len(seen) > 1 and seen[1][0] <= now - LATE:
            seen.popleft()
        self.value = seen[0][1]


class Inbox(NamedTuple):
    """An inbox that came into being lately: its client, and its position."""

    client_id: str
    position: Position


class Look(NamedTuple):
    """What a look found."""

    #: The open logs whose position differs from the known one. Those that do not exist any more.
    moved: list[Position]
    gone: list[int]
    #: The inboxes above the floor, and the largest key of a channel.
    inboxes: list[Inbox]
    newest_channel: int
    #: The newest erasures above the floor, at most ``erasures.LOOK``, newest first: the id, the channel and the seq of each.
    erasures: list[tuple[int, int, int]]
    newest_erasure: int
    #: Whether any streamed message is open, or ended lately.
    streams: bool


def look(
    known: Sequence[tuple[int, int, str]], channels: int | None, erasures: int | None, ended_since: datetime
) -> Look:
    """Compare ``known`` positions (id, head, epoch) with the logs, and find what is new above the floors of two tables.

    Without a floor (None), no row of that table is returned.
    """
    text = msgspec.json.encode(known).decode()
    since = connection.ops.adapt_datetimefield_value(ended_since)
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        # Django's wrapper is left out: with DEBUG it would format and keep the statement with all positions.
        cursor = wrapper.cursor
        cursor.execute(_SQL[connection.vendor], (text, channels, erasures, LOOK, since))
        moved, inboxes, newest_channel, erased, newest_erasure, streams = cursor.fetchone()
    found: list[tuple[int, int | None, str]] = _rows(moved)
    return Look(
        [Position(pk, head, epoch) for pk, head, epoch in found if head is not None],
        [pk for pk, head, _ in found if head is None],
        [Inbox(name, Position(pk, head, epoch)) for name, pk, head, epoch in _rows(inboxes)],
        newest_channel or 0,
        [(pk, channel_id, seq) for pk, channel_id, seq in _rows(erased)],
        newest_erasure or 0,
        bool(streams),
    )


def _rows(value: Any) -> list[Any]:
    """Return a column that is an array in JSON, which PostgreSQL's driver has decoded already."""
    if isinstance(value, str):
        value = msgspec.json.decode(value)
    return value or []


#: The parameters are the positions as JSON, the two floors, the most erasures, and the time since when streams ended.
_SQLITE = """
SELECT
 (SELECT json_group_array(json_array(k.id, c.head, c.epoch)) FROM
   (SELECT value ->> 0 AS id, value ->> 1 AS head, value ->> 2 AS epoch FROM json_each(%s)) AS k
   LEFT JOIN bus_channel c ON c.id = k.id WHERE c.id IS NULL OR c.head <> k.head OR c.epoch <> k.epoch),
 (SELECT json_group_array(json_array(name, id, head, epoch)) FROM bus_channel WHERE id > %s AND kind = 'inbox'),
 (SELECT max(id) FROM bus_channel),
 (SELECT json_group_array(json_array(id, channel_id, seq)) FROM
   (SELECT id, channel_id, seq FROM bus_erasure WHERE id > %s ORDER BY id DESC LIMIT %s)),
 (SELECT max(id) FROM bus_erasure),
 EXISTS (SELECT 1 FROM bus_stream WHERE state = 'open')
  OR EXISTS (SELECT 1 FROM bus_stream WHERE ended_at IS NOT NULL AND ended_at >= %s)
"""
_POSTGRESQL = """
SELECT
 (SELECT json_agg(json_build_array(k.id, c.head, c.epoch)) FROM
   (SELECT (value ->> 0)::bigint AS id, (value ->> 1)::bigint AS head, value ->> 2 AS epoch
    FROM json_array_elements(%s::json)) AS k
   LEFT JOIN bus_channel c ON c.id = k.id WHERE c.id IS NULL OR c.head <> k.head OR c.epoch <> k.epoch),
 (SELECT json_agg(json_build_array(name, id, head, epoch)) FROM bus_channel WHERE id > %s::bigint AND kind = 'inbox'),
 (SELECT max(id) FROM bus_channel),
 (SELECT json_agg(json_build_array(id, channel_id, seq)) FROM
   (SELECT id, channel_id, seq FROM bus_erasure WHERE id > %s::bigint ORDER BY id DESC LIMIT %s) AS e),
 (SELECT max(id) FROM bus_erasure),
 EXISTS (SELECT 1 FROM bus_stream WHERE state = 'open')
  OR EXISTS (SELECT 1 FROM bus_stream WHERE ended_at IS NOT NULL AND ended_at >= %s)
"""
_SQL = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
