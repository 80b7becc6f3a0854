"""How far a task is, said from inside of it."""

from __future__ import annotations

import math
import time

from asgiref.sync import sync_to_async

from .conf import config
from .runs import Progress, current

#: Characters of a text about the progress.
LONGEST = 500


def progress(done: float, total: float | None = None, text: str = "") -> bool:
    """Say how far the task that runs here is: ``done`` of ``total``, in any unit. Return whether a message was published.

    Messages are at least ``interval`` seconds apart, except for the first and for the last, with ``done == total``. Those in
    between are left out, so a loop may call this each time. In a transaction, a message is seen after the commit. Outside of
    a task nothing happens, so the function can be called from anywhere.

    Raises ``ValueError`` for a negative or infinite number, and ``TypeError`` for another type.
    """
    for name, value in (("done", done), ("total", total)):
        if value is not None and (not math.isfinite(value) or value < 0):
            raise ValueError(f"`{name}` must be a finite number from 0 on.")
    run = current()
    if run is None:
        return False
    run.progress = Progress(done, total, str(text)[:LONGEST])
    now = time.monotonic()
    if run.sent is not None and now - run.sent < config().interval and done != total:
        return False
    from .telling import tell  # A module with tasks may be imported before the models.

    told = tell(run, "running")
    run.sent = now
    return told


#: As :func:`progress`, for an ``async def`` task.
aprogress = sync_to_async(progress)
