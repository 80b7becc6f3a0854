"""Gates that do what their messages tell them. Each writes a row, the name of a group, before anything else."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import connection

from bus.auth.permissions import Actor
from bus.gates import GateMessage, Refuse, before
from bus.services import publish


def _note(message: GateMessage) -> None:
    Group.objects.create(name=f"{message.address} {message.payload.get('n')}"[:150])


@before("*:slow")
def waits(message: GateMessage, actor: Actor) -> None:
    """Wait until there is a file, as long as that takes. On SQLite the wait holds no lock."""
    if message.payload.get("reads"):
        User.objects.count()
    if until := message.payload.get("until"):
        deadline = time.monotonic() + 60
        while not Path(until).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    time.sleep(message.payload.get("sleep", 0.0))
    _note(message)


@before("*:told")
def told(message: GateMessage, actor: Actor) -> None:
    """Do what the message says."""
    _note(message)
    payload: dict[str, Any] = message.payload
    match payload.get("do"):
        case "refuse":
            raise Refuse("TOO_LOW", "Bid 12 or more.")
        case "fail":
            int(payload["text"])
        case "change":
            message.payload = {"n": payload["n"], "by": "a gate"}
        case "swallow":
            message.swallow()
        case "publish":
            publish(f"{message.room}:audit", {"of": message.id})
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "break":
            _break()


def _break() -> None:
    """Take the database session away under the first message that asks for it."""
    session: Any = connection.connection
    if connection.vendor == "postgresql" and not hasattr(_break, "done"):
        _break.done = True  # type: ignore[attr-defined]
        session.close()
