"""Handlers in tests of a project: run them until nothing is left to handle."""

from __future__ import annotations

from . import positions
from .handling import Outcome, handle_next
from .registry import chosen

#: Messages after which a run counts as endless.
MOST = 10_000


def run_handlers(*names: str, raises: bool = True) -> int:
    """Handle all messages in this thread, until none is left. Return how many were handled.

    ``names`` are the handlers to run; without names, all. A handler begins before the first message, so that it gets those
    that the test published. It also works inside the transaction of a ``TestCase``. The exception of a handler is raised.
    With ``raises=False`` failures are as in production, and the next attempt comes at once.

    Raises ``ValueError`` as :func:`~bus.handlers.chosen`, and ``AssertionError`` for an endless run.
    """
    handlers = {found.pk: (found, one) for one in chosen(names) for found in [positions.begin(one, since="start")]}
    handled = looks = 0
    while True:
        for found, one in handlers.values():
            positions.discover(found, one)
        ready = positions.ready(list(handlers), 1000, waiting=False)
        if not ready:
            return handled
        for position in ready:
            result = handle_next(handlers[position.handler_id][1], position.id, "test")
            if result.problem is not None and raises:
                raise result.problem
            handled += result.outcome is Outcome.HANDLED
            looks += 1
            assert looks < MOST, "The handlers do not come to an end. Does one publish to what it listens to?"
