"""Something that is done again and again while other code runs, such as the renewal of a lease."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import Error as DatabaseError
from django.db import connection


@contextmanager
def repeated(every: float, call: Callable[[], bool]) -> Iterator[None]:
    """Call ``call`` in another thread each ``every`` seconds for as long as the block lasts. False from it is its last call.

    An error of the database does not end the calls. On SQLite the block itself may hold the database.
    """
    over = threading.Event()

    def run() -> None:
        try:
            while not over.wait(every):
                try:
                    if not call():
                        return
                except DatabaseError:
                    connection.close()
        finally:
            connection.close()

    thread = threading.Thread(target=run, name="arqonbus-renew", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
