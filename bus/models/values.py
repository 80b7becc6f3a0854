"""Values that the tables and their users share: epochs, digests and times on the wire."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import overload


def new_epoch() -> str:
    """Return a new epoch. A log's epoch changes only when the log is created anew or loses messages."""
    return secrets.token_hex(4)


def digest(secret: str) -> str:
    """Return the stored form of a token, SHA-256 in hex. It fits secrets of high entropy only."""
    return hashlib.sha256(secret.encode()).hexdigest()


@overload
def wire_time(moment: datetime) -> str: ...
@overload
def wire_time(moment: datetime | None) -> str | None: ...
def wire_time(moment: datetime | None) -> str | None:
    """Return a time in its form on the wire: ISO 8601, UTC, milliseconds and ``Z``. None stays None."""
    if moment is None:
        return None
    # Most times are in UTC already; the text of its offset is the same each time.
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).isoformat(timespec="milliseconds")[:-6] + "Z"
