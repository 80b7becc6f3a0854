"""The gate."""

from __future__ import annotations

import time

from django.contrib.auth.models import User

from bus.auth.permissions import Actor
from bus.gates import GateMessage, before


@before("bench-gated:*")
def sleeps(message: GateMessage, actor: Actor) -> None:
    """Read a row, and sleep three seconds."""
    User.objects.first()
    time.sleep(3)
