"""Reads keys for JWT. Each key works with one algorithm only."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.core.exceptions import ImproperlyConfigured


class Key(NamedTuple):
    """A key for verification, and its algorithm."""

    algorithm: str
    material: Any


def key_of(text: str) -> Key:
    """The key in ``text``: a PEM public key or a shared secret. Raises ``ImproperlyConfigured`` for anything else."""
    text = text.replace("\\n", "\n").strip()
    if "-----BEGIN" not in text:
        secret = text.encode()
        if len(secret) < 32:
            raise ImproperlyConfigured(f"a shared secret for HS256 needs at least 32 bytes; this one has {len(secret)}")
        return Key("HS256", secret)
    if "PRIVATE KEY" in text:
        raise ImproperlyConfigured("this is a private key; use the public key")
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
    raise ImproperlyConfigured(
        "the public key must be RSA with at least 2048 bits (RS256), or EC on the curve P-256 (ES256)"
    )


def keys_of(document: str | bytes) -> dict[str, Key]:
    """The usable keys of a JWKS document, by key id ("" if absent). Raises ``ValueError`` for another document."""
    try:
        rows = list(json.loads(document)["keys"])
    except (ValueError, KeyError, TypeError):
        raise ValueError("this is not a JWKS document, an object with a list of `keys`") from None
    found: dict[str, Key] = {}
    for row in rows:
        try:
            material = jwt.PyJWK(row).key
            found[str(row.get("kid", ""))] = (
                Key("HS256", material) if row.get("kty") == "oct" and len(material) >= 32 else _key_for(material)
            )
        except (jwt.PyJWTError, ImproperlyConfigured, TypeError, ValueError, AttributeError):
            continue  # A JWKS document may also contain keys of other kinds and uses.
    return found
