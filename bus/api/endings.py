"""Releases the resources of an HTTP request, however it ends.

No response can see to that: Django closes one only if it was sent, and a generator that was never begun runs no ``finally``. The
call of the ASGI application always ends, and after everything else of its request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("arqonbus.asgi")

_KEY = "arqonbus.ending"


class Ending:
    """The end of one request. Called from the loop."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        #: Whether it has come.
        self.over = False

    def then(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the request ends, or at once if it has ended."""
        if self.over:
            callback()
        else:
            self._callbacks.append(callback)

    def come(self) -> None:
        """Run the callbacks: the request has ended."""
        self.over = True
        while self._callbacks:
            try:
                self._callbacks.pop()()
            except Exception:
                # What one of them could not give back must not cost the others.
                logger.exception("could not close a request", extra={"event": "internal_error"})


def begin(scope: Any) -> Ending:
    """Begin a request. The caller must call :meth:`Ending.come` at its end."""
    ending = scope[_KEY] = Ending()
    return ending


def ending_of(scope: Any) -> Ending:
    """The end of the scope's request. Without ``bus_application`` (check W009) it never comes."""
    found = scope.get(_KEY)
    return found if isinstance(found, Ending) else Ending()
