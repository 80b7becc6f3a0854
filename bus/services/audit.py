"""The audit log: it records each change with its actor and the interface that the actor used."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from ..auth.permissions import Actor
from ..models import AuditEntry
from ..monitoring.log_lines import tame

#: The most bytes that an entry stores of one detail. A channel's metadata may be as large as a body.
MOST_BYTES = 8 * 1024

logger = logging.getLogger("arqonbus.audit")


def record(actor: Actor, door: str, action: str, target: str, **details: Any) -> None:
    """Add an entry to the audit log and a line to the process's log.

    ``door`` is socket, rest, mcp, admin, command, code (of the project) or server (by itself). ``details`` can be any values
    that JSON can hold.
    """
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
    """Return the details. A value above the limit is replaced by a note of its size in bytes."""
    return {
        key: value if (size := len(msgspec.json.encode(value, enc_hook=str))) <= MOST_BYTES else f"… ({size} bytes)"
        for key, value in details.items()
    }
