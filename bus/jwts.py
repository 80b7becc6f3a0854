"""JSON Web Tokens: their keys, and what a good one says.

A key is used with the one algorithm of its kind and no other, whatever the token's header asks for; so `alg: none` and the
confusion of a public key with a shared secret cannot happen. Keys come from the setting, or from a JWKS document (a file or
an address) that is read again now and then; nothing here may be called in an event loop, since reading may wait for the network.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .conf import config

logger = logging.getLogger("arqonbus.jwt")

#: Longest token that is looked at; bytes.
LONGEST = 8192
#: Seconds that a JWKS server may take, and that unknown key ids may not make us ask it again.
FETCH_TIMEOUT = 3.0
FETCH_PAUSE = 10.0


class NotGood(Exception):
    """The token does not hold; the text says why and is for the log only."""


class Key(NamedTuple):
    """Material for verifying, and the one algorithm that it is for."""

    algorithm: str
    material: Any


def read(text: str) -> dict[str, Any]:
    """The claims of a good token. Raises :class:`NotGood`."""
    settings = config()
    if len(text) > LONGEST:
        raise NotGood("too long")
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
    except jwt.PyJWTError as problem:
        raise NotGood(f"{type(problem).__name__}: {problem}") from None
    if not claims["sub"]:
        raise NotGood("an empty `sub`")
    return claims


def enabled() -> bool:
    """Whether JWT are taken at all."""
    settings = config()
    return bool(settings.jwt_key or settings.jwt_jwks)


def key_of(text: str) -> Key:
    """The key of the setting: a PEM public key, or a shared secret. Raises ``ImproperlyConfigured``."""
    text = text.replace("\\n", "\n").strip()
    if "-----BEGIN" not in text:
        secret = text.encode()
        if len(secret) < 32:
            raise ImproperlyConfigured(f"a shared secret for HS256 has at least 32 bytes; this one has {len(secret)}")
        return Key("HS256", secret)
    if "PRIVATE KEY" in text:
        raise ImproperlyConfigured("this is a private key; tokens are checked with the public one")
    try:
        key = load_pem_public_key(text.encode())
    except ValueError:
        raise ImproperlyConfigured("this is not a PEM public key") from None
    return _key_for(key)


def _key_for(key: Any) -> Key:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return Key("RS256", key)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return Key("ES256", key)
    raise ImproperlyConfigured("a public key is RSA of at least 2048 bits (RS256) or on the curve P-256 (ES256)")


def keys_of(document: str | bytes) -> dict[str, Key]:
    """The usable keys of a JWKS document by their ids ("" for one without). Raises ``ValueError`` when it is none."""
    try:
        rows = list(json.loads(document)["keys"])
    except (ValueError, KeyError, TypeError):
        raise ValueError("not a JWKS document: an object with a list of `keys` is expected") from None
    found: dict[str, Key] = {}
    for row in rows:
        try:
            material = jwt.PyJWK(row).key
            found[str(row.get("kid", ""))] = (
                Key("HS256", material) if row.get("kty") == "oct" and len(material) >= 32 else _key_for(material)
            )
        except (jwt.PyJWTError, ImproperlyConfigured, TypeError, ValueError, AttributeError):
            continue  # Keys of other kinds and uses stand in such documents too.
    return found


class _Fixed:
    """One key, from the setting."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def find(self, kid: Any, algorithm: Any) -> Key:
        if self._key.algorithm not in config().jwt_algorithms:
            raise NotGood(f"{self._key.algorithm} is not among the algorithms taken")
        return self._key


class _Set:
    """The keys of a JWKS document, read again when they are old or when a token names one that is not there."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._keys: dict[str, Key] = {}
        self._read_at = float("-inf")
        self._reading = threading.Lock()

    def find(self, kid: Any, algorithm: Any) -> Key:
        """The key of that id; without an id, the only one there is of that algorithm. Raises :class:`NotGood`."""
        self._refresh(config().jwt_jwks_refresh)
        key = self._pick(kid, algorithm)
        if key is None:
            # The issuer may have a new key; unknown ids in a row do not make us its flood.
            self._refresh(FETCH_PAUSE)
            key = self._pick(kid, algorithm)
        if key is None:
            raise NotGood("no key of that id")
        if key.algorithm not in config().jwt_algorithms:
            raise NotGood(f"{key.algorithm} is not among the algorithms taken")
        return key

    def _pick(self, kid: Any, algorithm: Any) -> Key | None:
        if isinstance(kid, str):
            return self._keys.get(kid)
        fitting = [key for key in self._keys.values() if key.algorithm == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _refresh(self, age: float) -> None:
        """Read the document if what we have is older than ``age`` seconds; others go on with what there is meanwhile."""
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
                    "the keys for JWT at %s cannot be read (%s); those read before stay good",
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
        with urllib.request.urlopen(self._where, timeout=FETCH_TIMEOUT) as answer:  # noqa: S310
            body: bytes = answer.read(1024 * 1024)
        return body


@lru_cache(maxsize=1)
def _source() -> _Fixed | _Set:
    settings = config()
    if settings.jwt_jwks:
        return _Set(settings.jwt_jwks)
    return _Fixed(key_of(settings.jwt_key))


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "ARQONBUS":
        _source.cache_clear()


setting_changed.connect(_forget, dispatch_uid="arqonbus.jwts")
