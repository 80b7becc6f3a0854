"""Releases the resources of an HTTP request, however it ends.

A response cannot do this. Django closes a response only if it was sent, and a generator that never started runs no ``finally``.
The call of the ASGI application always ends, after everything else of its request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("arqonbus.asgi")

_KEY = "arqonbus.ending"


class Ending:
    """The end of one request. All calls come from the event loop."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        #: Whether the request has ended.
        self.over = False

    def then(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the request ends, or at once if it has ended."""
        if self.over:
            callback()
        else:
            self._callbacks.append(callback)

    def come(self) -> None:
        """Mark the request as ended, and run the callbacks."""
        self.over = True
        while self._callbacks:
            try:
                self._callbacks.pop()()
            except Exception:
                # The failure of one callback must not keep the others from running.
                logger.exception("could not close a request", extra={"event": "internal_error"})


def begin(scope: Any) -> Ending:
    """Add an ``Ending`` to the scope of a new request. The caller must call :meth:`Ending.come` at its end."""
    ending = scope[_KEY] = Ending()
    return ending


def ending_of(scope: Any) -> Ending:
    """The ``Ending`` of the scope's request. Without ``bus_application`` (check W009) its callbacks never run."""
    found = scope.get(_KEY)
    return found if isinstance(found, Ending) else Ending()
