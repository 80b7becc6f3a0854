"""The audit log: who changed what, through which door."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from ..auth.permissions import Actor
from ..models import AuditEntry
from ..monitoring.log_lines import tame

#: Bytes of what is kept of one detail; a channel's metadata may be as large as a body.
MOST_BYTES = 8 * 1024

logger = logging.getLogger("arqonbus.audit")


def record(actor: Actor, door: str, action: str, target: str, **details: Any) -> None:
    """Keep one line: ``door`` is socket, rest, admin or command."""
    who = actor.name if actor.name == actor.client_id or not actor.client_id else f"{actor.name} ({actor.client_id})"
    AuditEntry.objects.create(
        actor=who[:150],
        principal=actor.principal,
        door=door,
        action=action,
        target=target[:200],
        details=_bounded(details),
    )
    logger.info(
        "%s: %s %s (%s)",
        tame(who),
        action,
        tame(target),
        door,
        extra={
            "event": "audit",
            "actor": who,
            "principal": actor.principal,
            "door": door,
            "action": action,
            "target": target,
        },
    )


def _bounded(details: dict[str, Any]) -> dict[str, Any]:
    """The details, those that are too large as a word about that."""
    return {
        key: value if (size := len(msgspec.json.encode(value, enc_hook=str))) <= MOST_BYTES else f"… ({size} bytes)"
        for key, value in details.items()
    }
