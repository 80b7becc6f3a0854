"""A task as the bus tells of it, the address where it does, and the tasks that run here.

This module imports no models, so that modules with tasks can be imported before the apps are ready.
"""

from __future__ import annotations

import hashlib
from contextvars import ContextVar
from typing import Any, Literal

import msgspec

from ...protocol.names import Address, is_name, parse_address
from ...protocol.routing import invalid_name
from .conf import config

ROOM = "tasks"

State = Literal["queued", "running", "retrying", "succeeded", "failed", "cancelled"]


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a task is. ``total`` is None while nobody knows it."""

    done: float
    total: float | None = None
    text: str = ""


class Run(msgspec.Struct):
    """A task that waits, runs or ended. ``args`` and ``kwargs`` are for the project's own choice of the channel."""

    id: str
    #: The dotted path of its function.
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    #: How often it was begun, with this time; 0 before.
    attempt: int = 0
    progress: Progress | None = None
    #: When the last message about its progress was sent, on the monotonic clock.
    sent: float | None = None


def address_of(task: Run | str) -> Address | None:
    """Return the address of the channel of a task, or of the task with an id. None: the project wants no messages about it.

    Raises ``BusError`` INVALID_NAME for a wrong address of the project.
    """
    chosen = config().channel
    if chosen is None:
        key = task if isinstance(task, str) else task.id
        # Other ids than those that Celery and Django make may have any characters.
        return Address(ROOM, key if is_name(key) else hashlib.sha256(key.encode()).hexdigest()[:32])
    found = chosen(Run(task, "") if isinstance(task, str) else task)
    if found is None:
        return None
    address = parse_address(str(found))
    if address is None or address.is_inbox:
        raise invalid_name("channel", str(found), f"{str(found)[:80]!r} is not an address of the form room:channel.")
    return address


#: The tasks that run in this context, the innermost last.
_running: ContextVar[tuple[Run, ...]] = ContextVar("arqonbus_tasks", default=())


def current() -> Run | None:
    """Return the task that runs here, or None."""
    running = _running.get()
    return running[-1] if running else None


def begin(run: Run) -> None:
    """Say that ``run`` runs in this context from now on."""
    _running.set((*_running.get(), run))


def end(key: str) -> Run | None:
    """Say that the task with the id ``key`` runs no longer. Return it, or None where it did not run."""
    running = _running.get()
    found = next((run for run in reversed(running) if run.id == key), None)
    _running.set(tuple(run for run in running if run is not found))
    return found


def running(key: str) -> Run | None:
    """Return the task with the id ``key`` if it runs in this context."""
    return next((run for run in reversed(_running.get()) if run.id == key), None)
