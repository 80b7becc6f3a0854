"""The tokens of claims. A token names a job and one claim of it, and is signed for its worker.

Nothing of a token is stored, and stale tokens are recognised too. Nobody else can use or guess one.
"""

from __future__ import annotations

import hmac
from typing import NamedTuple

from django.conf import settings
from django.utils.crypto import salted_hmac

from .work_operations import Worker

PREFIX = "arq_clm"
#: The characters of the signature: 64 bits.
LENGTH = 16
#: No id of a row is larger.
LARGEST = 2**63 - 1


class Claimed(NamedTuple):
    """What a token names: the job, and the number of its claim."""

    job: int
    number: int


def token_of(job: int, number: int, worker: Worker) -> str:
    """Return the token of a job's claim with this number."""
    return f"{PREFIX}_{job}_{number}_{_signature(settings.SECRET_KEY, job, number, worker)}"


def tokens_of(job: int, number: int, worker: Worker) -> set[str]:
    """Return all texts that :func:`read` takes for the token of a job's claim: one for each key."""
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return {f"{PREFIX}_{job}_{number}_{_signature(key, job, number, worker)}" for key in keys}


def read(token: str, worker: Worker) -> Claimed | None:
    """Return what a token names; None for a text that is no token of ``worker``."""
    parts = token.split("_")
    if len(parts) != 5 or f"{parts[0]}_{parts[1]}" != PREFIX or not all(_is_number(part) for part in parts[2:4]):
        return None
    job, number = int(parts[2]), int(parts[3])
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    given = parts[4].encode(errors="replace")
    good = [hmac.compare_digest(_signature(key, job, number, worker).encode(), given) for key in keys]
    return Claimed(job, number) if any(good) and job <= LARGEST and number <= LARGEST else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19


def _signature(key: str, job: int, number: int, worker: Worker) -> str:
    # A principal may end a job under any of its client ids.
    who = worker.principal or f"client:{worker.client_id}"
    return salted_hmac("arqonbus.claim", f"{job}/{number}/{who}", secret=key, algorithm="sha256").hexdigest()[:LENGTH]
