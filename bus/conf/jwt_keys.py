"""Keys that tokens are checked with: what is one, and the one algorithm that each is for."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.core.exceptions import ImproperlyConfigured


class Key(NamedTuple):
    """Material for verifying, and the one algorithm that it is for."""

    algorithm: str
    material: Any


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
