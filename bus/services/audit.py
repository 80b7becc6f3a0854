"""The audit log: who changed what, through which door."""

from __future__ import annotations

import logging
from typing import Any

from ..logs import tame
from ..models import AuditEntry
from ..permissions import Actor

logger = logging.getLogger("arqonbus.audit")


def record(actor: Actor, door: str, action: str, target: str, **details: Any) -> None:
    """Keep one line: ``door`` is socket, rest, admin or command."""
    who = actor.name if actor.name == actor.client_id or not actor.client_id else f"{actor.name} ({actor.client_id})"
    AuditEntry.objects.create(actor=who[:150], door=door, action=action, target=target[:200], details=details)
    logger.info(
        "%s: %s %s (%s)",
        tame(who),
        action,
        tame(target),
        door,
        extra={"event": "audit", "actor": who, "door": door, "action": action, "target": target},
    )
