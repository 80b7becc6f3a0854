"""One view of the database for several reads: what others commit meanwhile is not seen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

_OPEN_ALREADY = (
    "A snapshot needs a transaction of its own, and one is open here already. Leave the block of `transaction.atomic`, "
    "or decorate the view with `transaction.non_atomic_requests` if the project has ATOMIC_REQUESTS."
)
_here = threading.local()


@contextmanager
def snapshot() -> Iterator[None]:
    """Let all reads of the block see the database at one moment: that of the first read.

    The block is a transaction, for reading. On PostgreSQL it has REPEATABLE READ. On SQLite it takes no lock until something
    writes. A block within a block belongs to the outer one. Inside the transaction of a Django ``TestCase``, the reads see what
    others commit. Raises ``TransactionManagementError`` inside any other open transaction.
    """
    if getattr(_here, "open", False) or _in_test():
        yield
        return
    wrapper: Any = connection
    if wrapper.in_atomic_block or not wrapper.get_autocommit():
        raise transaction.TransactionManagementError(_OPEN_ALREADY)
    with _deferred(wrapper), transaction.atomic():
        if wrapper.vendor == "postgresql":
            with wrapper.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        _here.open = True
        try:
            yield
        finally:
            _here.open = False


def _in_test() -> bool:
    """Return whether the only transactions that are open here are those of a Django ``TestCase``."""
    blocks = getattr(connection, "atomic_blocks", [])
    return bool(blocks) and all(block._from_testcase for block in blocks)


@contextmanager
def _deferred(wrapper: Any) -> Iterator[None]:
    """Let the transactions that SQLite begins in the block take no lock for writing."""
    before = getattr(wrapper, "transaction_mode", None)
    if before is None:
        yield
        return
    wrapper.transaction_mode = "DEFERRED"
    try:
        yield
    finally:
        wrapper.transaction_mode = before
