"""The seal on notifications: a program that writes into the same Redis without our ``SECRET_KEY`` has no effect.

The seal is a keyed digest made with ``SECRET_KEY``, which all processes share anyway for sessions and tickets. It takes about a
microsecond. It encrypts nothing, and a sealed message can be replayed: that is a doubled notification, which is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b, sha256
from hmac import compare_digest

from django.conf import settings

#: Bytes of a seal.
SIZE = 16


@lru_cache(maxsize=16)
def _key(secret: str) -> bytes:
    return sha256(b"arqonbus.notification:" + secret.encode()).digest()


def _digest(data: bytes, secret: str) -> bytes:
    return blake2b(data, digest_size=SIZE, key=_key(secret)).digest()


def seal(data: bytes) -> bytes:
    """``data`` with its seal before it."""
    return _digest(data, settings.SECRET_KEY) + data


def unseal(sealed: object) -> bytes | None:
    """The data under a seal of ``SECRET_KEY`` or one of ``SECRET_KEY_FALLBACKS``; None for anything else."""
    if not isinstance(sealed, bytes) or len(sealed) < SIZE:
        return None
    digest, data = sealed[:SIZE], sealed[SIZE:]
    fallbacks: Sequence[str] = settings.SECRET_KEY_FALLBACKS
    for secret in (settings.SECRET_KEY, *fallbacks):
        if compare_digest(digest, _digest(data, secret)):
            return data
    return None
