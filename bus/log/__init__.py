"""The log: published messages in one order per channel, for as long as the retention says.

``append`` appends, and ``store`` reads and prunes, in the caller's thread and connection. ``writer`` gathers the appends
of a process into one short transaction after another. The SQL of each database is in a module of its own.
"""

from __future__ import annotations

from .append import CommitInDoubt, Contended, append_batch, verify
from .effects import Effect, Ending, Opening, Part, Snapshot, Steer, StreamState
from .entry import Entry, id_taken
from .erasures import forget_erasures
from .jobs import forget_jobs
from .keys import remember_swallowed, used_keys
from .passed import Passed
from .retention import Retention, beyond, drop, forget_keys, prunable, prune
from .store import (
    Position,
    first_seq,
    first_seqs,
    heads,
    read_after,
    seq_before,
    went_back,
)
from .writer import LogWriter

__all__ = [
    "CommitInDoubt",
    "Contended",
    "Effect",
    "Ending",
    "Entry",
    "LogWriter",
    "Opening",
    "Part",
    "Passed",
    "Position",
    "Retention",
    "Snapshot",
    "Steer",
    "StreamState",
    "append_batch",
    "beyond",
    "drop",
    "first_seq",
    "first_seqs",
    "forget_erasures",
    "forget_jobs",
    "forget_keys",
    "heads",
    "id_taken",
    "prunable",
    "prune",
    "read_after",
    "remember_swallowed",
    "seq_before",
    "used_keys",
    "verify",
    "went_back",
]
