"""A stream's row in memory, and the lock on it."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from django.db import connection

from ..models import digest
from .effects import OPEN, Effect, Part, StreamState
from .streamed_sql import STREAMS_OF_VENDOR


class Row:
    """A stream's row in memory, with the changes that the batch makes to it."""

    __slots__ = (
        "attempt", "before", "came", "channel_id", "client_id", "end_seq", "first", "have", "id", "loose", "merged", "mode",
        "moved", "new", "open_steers", "opened_by", "pieces", "principal", "rest", "seq", "size", "state", "steers",
        "stopping", "taken", "token_digest", "uid", "untaken",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        uid: str,
        channel_id: int,
        seq: int,
        mode: str,
        state: str,
        have: int,
        attempt: int,
        client_id: str,
        principal: str,
        rest: bool,
        stopping: bool,
        steers: int,
        end_seq: int | None,
        size: int,
        token_digest: str,
        loose: int,
        merged: int,
        *,
        new: bool = False,
    ) -> None:
        self.id, self.uid, self.channel_id, self.seq = id, uid, channel_id, seq
        self.mode, self.state, self.have, self.size = mode, state, have, size
        self.attempt, self.client_id, self.principal, self.rest = attempt, client_id, principal, bool(rest)
        self.stopping, self.token_digest, self.steers, self.end_seq = bool(stopping), token_digest, steers, end_seq
        self.loose, self.merged = loose, merged
        #: Whether the batch opened the stream, and whether it changed its row.
        self.new, self.moved = new, False
        # Most rows use none of these lists, and a group may have thousands of rows.
        #: The content that the batch adds. ``first`` is the number of its first part.
        self.pieces: list[bytes] | tuple[()] = ()
        self.first = 0
        #: The content before the batch, if the batch ends the stream.
        self.before: Sequence[bytes] = ()
        #: The steers that the owner has not taken, with those that came and were taken in the batch.
        self.open_steers: Sequence[tuple[int, str]] = ()
        self.came: Sequence[tuple[int, str]] = ()
        self.taken: Sequence[int] = ()
        #: The steers that the end in the log lists, once they were read.
        self.untaken: list[str] | None = None
        #: The effects that want the id of a new row.
        self.opened_by: list[Effect] | None = [] if new else None

    def told(self) -> StreamState:
        """Return the stream as it is now."""
        return StreamState(
            self.id, self.uid, self.channel_id, self.seq, self.mode, self.state, self.have, self.attempt, self.client_id,
            self.principal, self.rest, self.stopping and self.state == OPEN, self.steers, self.end_seq,
        )  # fmt: skip

    def belongs_to(self, part: Part) -> bool:
        """Return whether ``part`` comes from the stream's owner."""
        if self.client_id != part.client_id or self.principal != part.principal:
            return False
        return self.attempt == 1 or hmac.compare_digest(digest(part.token or ""), self.token_digest)


def lock_stream(of: str, patience: float | None) -> Row | None:
    """Lock one stream's row and return it; None without such a stream. Call it in a transaction.

    After ``patience`` seconds of waiting it raises the database's error.
    """
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        rows = STREAMS_OF_VENDOR[connection.vendor].lock(wrapper.cursor, [of], patience=patience)
    return Row(*rows[0]) if rows else None


def has_part(part: Part, patience: float | None) -> bool:
    """Return whether the log has a part whose commit was in doubt. The check locks the stream's row, as ``store.verify``.

    Call it in a transaction. After ``patience`` seconds of waiting it raises the database's error.
    """
    row = lock_stream(part.of, patience)
    # In a later attempt the part is gone, if it was there.
    return row is not None and row.have >= part.n and (part.stream is None or row.attempt == part.stream.attempt)
