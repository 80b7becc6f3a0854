"""Pages of history from a read replica (the setting ``history_database``), where it has everything that the page needs.

Rights and positions are always read from the default database. A replica lags behind. So a page comes from it only if it
has the log up to the page's last message, in the same epoch, and all erasures. Otherwise, and while the replica does not
answer, the page comes from the default database. A reader therefore sees its own writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from django.db import DEFAULT_DB_ALIAS
from django.db import Error as DatabaseError

from ..conf.settings import config
from ..db import faults
from ..db.reading import reading_from, rows
from ..log import erasures
from ..models import Channel
from ..monitoring import metrics
from .questions import LONGEST_QUESTION

logger = logging.getLogger("arqonbus.store")

Result = TypeVar("Result")

#: Seconds for which a replica that did not answer is not asked.
PAUSE = 5.0


class Needed(NamedTuple):
    """What a page needs of a log: all messages up to a seq, in an epoch."""

    seq: int
    epoch: str


class _Away:
    """Until when the replica is left alone, after it did not answer."""

    until = 0.0


def read(needed: Mapping[int, Needed], function: Callable[[], Result]) -> Result:
    """Call ``function``, which reads messages with ``db.reading``, on the replica if it has what is needed.

    ``needed`` has the logs by their ids. Without such a replica the function reads the default database.
    """
    alias = config().history_database
    if not alias or alias == DEFAULT_DB_ALIAS:
        return function()
    if time.monotonic() < _Away.until:
        return _read_primary(function)
    erased = erasures.newest()
    try:
        with reading_from(alias, LONGEST_QUESTION):
            if _has(needed) and erasures.newest() == erased:
                found = function()
                metrics.history_pages.labels("replica").inc()
                return found
    except DatabaseError as problem:
        if faults.too_slow(problem):
            raise  # The default database would need as long.
        _Away.until = time.monotonic() + PAUSE
        logger.warning(
            "the replica %s does not answer, so history comes from the default database: %s",
            alias,
            faults.one_line(problem),
            extra={"event": "replica_away"},
        )
    return _read_primary(function)


def _read_primary(function: Callable[[], Result]) -> Result:
    metrics.history_pages.labels("primary").inc()
    return function()


def _has(needed: Mapping[int, Needed]) -> bool:
    """Return whether the database to read from has the logs up to what is needed."""
    there = {
        key: (head, epoch)
        for key, head, epoch in rows(Channel).filter(id__in=needed).values_list("id", "head", "epoch")
    }
    return all(key in there and there[key][0] >= seq and there[key][1] == epoch for key, (seq, epoch) in needed.items())
