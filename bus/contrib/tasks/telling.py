"""Publish the state of a task."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

import msgspec
from django.db import connection, transaction

from ...auth.permissions import SYSTEM
from ...directory import channels
from ...models import Channel, Room
from ...monitoring.tracebacks import without_text
from ...protocol.names import Address
from ...services import publish
from .conf import config
from .runs import ROOM, Run, State, address_of

logger = logging.getLogger(__name__)

#: The type of the messages.
TYPE = "task"


def tell(run: Run, state: State, *, error: str = "") -> bool:
    """Publish the state. Return whether that was done.

    ``error`` is the type of an exception, and never its text. A failure is logged: no task fails because of its news.
    """
    try:
        # In a transaction of the caller, a failure must not spoil the rest.
        with transaction.atomic() if connection.in_atomic_block else nullcontext():
            where = address_of(run)
            if where is None:
                return False
            if state == "queued" or run.sent is None:
                _prepare(where)
            publish(where, _payload(run, state, error), type=TYPE)
    except Exception as problem:  # Whatever it is, the task goes on.
        logger.warning(
            "the bus could not tell of the task %s: %s",
            run.id,
            state,
            exc_info=without_text(problem),
            extra={"event": "task_untold", "state": state},
        )
        return False
    return True


def _payload(run: Run, state: State, error: str) -> dict[str, Any]:
    told: dict[str, Any] = {"task": run.id, "name": run.name, "state": state, "attempt": run.attempt}
    if run.progress is not None:
        told["progress"] = msgspec.to_builtins(run.progress)
    if error:
        told["error"] = error
    return told


def _prepare(address: Address) -> None:
    """Make the channel of a task, which is removed when its messages are. A room made here is private, if so configured."""
    if channels.find(address) is not None:
        return
    settings = config()
    if settings.private:
        Room.objects.get_or_create(
            name=address.room,
            defaults={
                "private": True,
                "description": "The state and progress of tasks." if address.room == ROOM else "",
            },
        )
    ref, made = channels.ensure(address, SYSTEM)
    if made:
        Channel.objects.filter(pk=ref.id).update(
            retention_count=settings.retention_count, retention_age=settings.retention_age
        )
