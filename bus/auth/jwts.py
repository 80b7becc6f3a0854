"""JSON Web Tokens: the source of their keys, and the claims of a valid token.

A key works with the one algorithm of its kind, whatever the header of a token asks for. So `alg: none`, and a public key that
is used as a shared secret, cannot happen. Keys come from the setting, or from a JWKS document (a file or an address) that is
read again from time to time. Do not call this in an event loop, because reading may wait for the network.
"""

from __future__ import annotations

import logging
import threading
import time
import urllib.request
from base64 import urlsafe_b64decode
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt
from django.core.signals import setting_changed

from ..conf.jwt_keys import Key, key_of, keys_of
from ..conf.settings import config
from ..protocol.limits import nesting_within

logger = logging.getLogger("arqonbus.jwt")

#: Longest accepted token, in bytes.
LONGEST = 8192
#: Latest accepted end of a token, in seconds since the epoch. Python has no dates after the year 9999.
LATEST = 250_000_000_000
#: Seconds that a JWKS server may take, and seconds between fetches because of unknown key ids.
FETCH_TIMEOUT = 3.0
FETCH_PAUSE = 10.0


class NotGood(Exception):
    """The token is not valid. The text says why, and is for the log only."""


def _decoded(part: str) -> bytes:
    """The bytes of a part of a JWT; none for a text that is no base64, which the library refuses."""
    try:
        return urlsafe_b64decode(part.encode() + b"=" * (-len(part) % 4))
    except ValueError:
        return b""


def read(text: str) -> dict[str, Any]:
    """The claims of a valid token. Raises :class:`NotGood`."""
    settings = config()
    if len(text) > LONGEST:
        raise NotGood("too long")
    if not all(nesting_within(_decoded(part), settings.frame_depth) for part in text.split(".")[:2]):
        # Some versions of Python read any depth.
        raise NotGood("nested too deeply")
    try:
        header = jwt.get_unverified_header(text)
        key = _source().find(header.get("kid"), header.get("alg"))
        claims: dict[str, Any] = jwt.decode(
            text,
            key.material,
            algorithms=[key.algorithm],
            audience=settings.jwt_audience or None,
            issuer=settings.jwt_issuer or None,
            leeway=settings.jwt_leeway,
            options={"require": ["exp", "sub"], "verify_aud": bool(settings.jwt_audience)},
        )
    except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as problem:
        # Before its signature is checked a token can hold anything, and the library reads some of it.
        raise NotGood(f"{type(problem).__name__}: {str(problem)[:200]}") from None
    subject, ends = claims["sub"], claims["exp"]
    if not isinstance(subject, str) or not subject.isprintable() or not subject:
        raise NotGood("`sub` is not a text of printable characters")
    if isinstance(ends, bool) or not isinstance(ends, (int, float)) or ends > LATEST:
        raise NotGood("`exp` is not a time in seconds")
    return claims


def enabled() -> bool:
    """Whether JWTs are accepted at all."""
    settings = config()
    return bool(settings.jwt_key or settings.jwt_jwks)


class _Fixed:
    """One key, from the setting."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def find(self, kid: Any, algorithm: Any) -> Key:
        if self._key.algorithm not in config().jwt_algorithms:
            raise NotGood(f"{self._key.algorithm} is not an accepted algorithm")
        return self._key


class _SameAddress(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: only the address in the settings was checked, and another could be plain HTTP."""

    def redirect_request(self, *_: Any) -> None:
        """No further request; the redirect is an error."""


class _Set:
    """The keys of a JWKS document. It is read again when it is old, or when a token names an unknown key.

    ``jwt.PyJWKClient`` does less: it reads no files, refuses every token while the issuer is down and the keys are old,
    asks a failing issuer again for each token, and reads a document of any size.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._keys: dict[str, Key] = {}
        self._read_at = float("-inf")
        self._reading = threading.Lock()

    def find(self, kid: Any, algorithm: Any) -> Key:
        """The key with that id; without an id, the only key of that algorithm. Raises :class:`NotGood`."""
        self._refresh(config().jwt_jwks_refresh)
        key = self._pick(kid, algorithm)
        if key is None:
            # The issuer may have a new key. The pause keeps unknown ids from flooding it.
            self._refresh(FETCH_PAUSE)
            key = self._pick(kid, algorithm)
        if key is None:
            raise NotGood("no key with this id")
        if key.algorithm not in config().jwt_algorithms:
            raise NotGood(f"{key.algorithm} is not an accepted algorithm")
        return key

    def _pick(self, kid: Any, algorithm: Any) -> Key | None:
        if isinstance(kid, str):
            return self._keys.get(kid)
        fitting = [key for key in self._keys.values() if key.algorithm == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _refresh(self, age: float) -> None:
        """Read the document if it is older than ``age`` seconds. Other threads use the old keys meanwhile."""
        if time.monotonic() - self._read_at < age:
            return
        if not self._reading.acquire(blocking=not self._keys):
            return
        try:
            if time.monotonic() - self._read_at < age:
                return
            self._read_at = time.monotonic()
            try:
                self._keys = keys_of(self._document())
            except (OSError, ValueError) as problem:
                logger.error(
                    "cannot read the keys for JWT at %s (%s); keys that were read before stay valid",
                    self._where,
                    problem,
                    extra={"event": "jwks_failed"},
                )
        finally:
            self._reading.release()

    def _document(self) -> bytes:
        if "://" not in self._where:
            return Path(self._where).read_bytes()
        # The scheme is checked with the settings: https, or http to this machine.
        opener = urllib.request.build_opener(_SameAddress)
        with opener.open(self._where, timeout=FETCH_TIMEOUT) as answer:
            body: bytes = answer.read(1024 * 1024)
        return body


@lru_cache(maxsize=1)
def _source() -> _Fixed | _Set:
    settings = config()
    if settings.jwt_jwks:
        return _Set(settings.jwt_jwks)
    return _Fixed(key_of(settings.jwt_key))


def _forget(*, setting: str, **_: Any) -> None:
    if setting.startswith("ARQONBUS"):
        _source.cache_clear()


setting_changed.connect(_forget, dispatch_uid="arqonbus.jwts")
