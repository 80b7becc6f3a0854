"""The seal on what goes from process to process: somebody else who writes into the same Redis rings no bell of ours.

A keyed digest made with ``SECRET_KEY``, which all processes share anyway for sessions and tickets; it takes about a microsecond.
Nothing is encrypted by it, and what was sealed once stays so: a bell that is played again is a doubled bell, which is allowed.
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
    return sha256(b"arqonbus.bell:" + secret.encode()).digest()


def _seal_of(data: bytes, secret: str) -> bytes:
    return blake2b(data, digest_size=SIZE, key=_key(secret)).digest()


def seal(data: bytes) -> bytes:
    """``data`` with its seal before it."""
    return _seal_of(data, settings.SECRET_KEY) + data


def unseal(sealed: object) -> bytes | None:
    """What :func:`seal` was given by a process of the same ``SECRET_KEY``, or an earlier one; None for anything else."""
    if not isinstance(sealed, bytes) or len(sealed) < SIZE:
        return None
    mark, data = sealed[:SIZE], sealed[SIZE:]
    fallbacks: Sequence[str] = settings.SECRET_KEY_FALLBACKS
    for secret in (settings.SECRET_KEY, *fallbacks):
        if compare_digest(mark, _seal_of(data, secret)):
            return data
    return None
