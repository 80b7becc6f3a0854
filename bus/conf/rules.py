"""Rules for settings that are more than a type and bounds: keys, addresses, origins, and settings that belong together.

A rule gets the value and all settings. It returns None, or the fault as the end of a sentence that begins with the name
of the setting.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from ..protocol.names import INBOX_ROOM, is_name, parse_address
from .jwt_keys import key_of
from .table import Config

_JWT_ALGORITHMS = frozenset({"HS256", "RS256", "ES256"})


def _send_buffer(value: int, whole: Config) -> str | None:
    if value < whole.frame_bytes:
        return f"is {value}; it must be at least ARQONBUS_FRAME_BYTES ({whole.frame_bytes})"
    return None


def _algorithms(value: tuple[str, ...], whole: Config) -> str | None:
    if set(value) - _JWT_ALGORITHMS or not value:
        return f"is {', '.join(value) or 'empty'}; it must be a selection of {', '.join(sorted(_JWT_ALGORITHMS))}"
    return None


def _jwt_key(value: str, whole: Config) -> str | None:
    if not value:
        return None
    try:
        algorithm = key_of(value).algorithm
    except ImproperlyConfigured as problem:
        return f"is not a valid key: {problem}"
    if algorithm not in whole.jwt_algorithms:
        return f"is a key for {algorithm}, which is not among ARQONBUS_JWT_ALGORITHMS"
    return "and ARQONBUS_JWT_JWKS are both set; set only one of them" if whole.jwt_jwks else None


def _identify(value: str, whole: Config) -> str | None:
    parts = value.split(".")
    dotted = not value or (len(parts) > 1 and all(part.isidentifier() for part in parts))
    return None if dotted else f"is {value!r}; it must be the dotted path of a function, such as shop.tokens.identify"


def _jwks(value: str, whole: Config) -> str | None:
    if not value or "://" not in value:
        return None if not value or Path(value).is_file() else f"is {value!r}; there is no such file"
    parts = urlsplit(value)
    local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme == "https" or local:
        return None
    return f"is {value!r}; it must be an https URL (or an http URL of this machine)"


def _system_room(value: str, whole: Config) -> str | None:
    return (
        None
        if is_name(value) and value not in (INBOX_ROOM, "science")
        else f"is {value!r}; it must be the name of a room, and not pm or science"
    )


def _default_channel(value: str, whole: Config) -> str | None:
    address = parse_address(value)
    return None if address and address.is_channel else f"is {value!r}; it must be room:channel, such as lobby:general"


def _origins(value: tuple[str, ...], whole: Config) -> str | None:
    for origin in value:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            return f"contains {origin!r}; an origin is scheme://host or scheme://host:port, such as https://app.example.com"
        if "*" in origin:
            return f"contains {origin!r}; an origin has no wildcards, because it is compared as a whole"
    return None


def _node_timeout(value: float, whole: Config) -> str | None:
    if value < 2 * whole.node_heartbeat:
        return f"is {value}; it must be at least twice ARQONBUS_NODE_HEARTBEAT ({whole.node_heartbeat})"
    return None


def _history_database(value: str, whole: Config) -> str | None:
    # A URL may contain a password, so the text does not repeat it.
    wrong = "://" in value or any(letter.isspace() for letter in value)
    return (
        "is no alias; give a URL as HISTORY_DATABASE_URL, and here the name of an entry of DATABASES" if wrong else None
    )


RULES: dict[str, Callable[[Any, Config], str | None]] = {
    "send_buffer": _send_buffer,
    "jwt_algorithms": _algorithms,
    "identify": _identify,
    "jwt_key": _jwt_key,
    "jwt_jwks": _jwks,
    "allowed_origins": _origins,
    "history_database": _history_database,
    "system_room": _system_room,
    "default_channel": _default_channel,
    "node_timeout": _node_timeout,
}
