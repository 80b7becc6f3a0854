"""Every setting of the bus: name, type, default, unit and meaning in one table.

The project reads ``ARQONBUS_<NAME>`` from the environment into ``settings.ARQONBUS``; a host project may fill that dict
as it likes. ``config()`` gives the checked values; ``docs/configuration.md`` is generated from this module.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ..protocol.names import DEFAULT_ADDRESS, INBOX_ROOM, Address, is_name, parse_address
from . import parsing as env
from .jwt_keys import key_of
from .parsing import setting as _setting


@dataclass(frozen=True)
class Config:
    """The bus's settings. Sizes are bytes and durations seconds unless said; 0 switches a limit off where that is said."""

    # Who may come in
    anonymous: bool | None = _setting(None, "Let clients in that do not identify themselves; unset: as DEBUG.")
    auto_create: bool = _setting(True, "Create a missing room or channel on the first join or publish.")
    token_in_url: bool = _setting(False, "Take access tokens from the query string (they end up in proxies' logs).")
    allowed_origins: tuple[str, ...] = _setting(
        [],
        "Origins of browser pages allowed besides ALLOWED_HOSTS, on sockets and over REST (CORS), as scheme://host[:port].",
    )
    telemetry_anonymous: bool | None = _setting(
        None, "Let unidentified clients use the telemetry socket; unset: as `anonymous`."
    )
    registration_deadline: float = _setting(
        30.0, "Time after connecting in which a client has to send its first frame; 0: no deadline."
    )
    handshake_timeout: float = _setting(
        10.0, "Time in which a new connection has to say its request or handshake as a whole; 0: the server's own."
    )
    resume_window: float = _setting(
        24 * 3600.0,
        "How long a resume token is good after the connection is gone, and an anonymous client is remembered.",
    )
    ticket_lifetime: float = _setting(30.0, "How long a browser's single-use connection ticket is good.")
    jwt_key: str = _setting(
        "", "Key for JWT: a shared secret (HS256) or a PEM public key (RS256, ES256); empty: no JWT."
    )
    jwt_jwks: str = _setting("", "Path or https URL of a JWKS document with the keys for JWT.")
    jwt_jwks_refresh: float = _setting(300.0, "Age at which the JWKS document is read again.")
    jwt_algorithms: tuple[str, ...] = _setting(
        ["HS256", "RS256", "ES256"], "Algorithms taken for JWT; a key is only ever used with the one of its kind."
    )
    jwt_audience: str = _setting("", "Audience (`aud`) that a JWT must name; empty: any.")
    jwt_issuer: str = _setting("", "Issuer (`iss`) that a JWT must name; empty: any.")
    jwt_leeway: float = _setting(10.0, "How far the clock of a JWT's issuer may differ from ours.")
    jwt_admin_claim: str = _setting("", "Claim that, when true, makes the bearer of a JWT an admin; empty: none does.")
    jwt_groups_claim: str = _setting("", "Claim with the names of groups for grants, as a list or with spaces between.")
    jwt_scope_claim: str = _setting(
        "", "Claim with the actions that a JWT is good for (join, publish, …); empty: no bounds."
    )
    revalidate: float = _setting(
        60.0, "Time between looks at whether all who are connected may still be; changes known of act at once; 0: none."
    )
    # Limits of a connection
    frame_bytes: int = _setting(
        256 * 1024, "Largest frame taken; above the server's own 1 MiB the server closes with 1009."
    )
    frame_depth: int = _setting(32, "Deepest nesting of a frame's JSON.")
    targets: int = _setting(100, "Most targets of one private message.")
    batch: int = _setting(500, "Most messages of one batch over HTTP.")
    batch_rows: int = _setting(
        2000, "Most messages of one request over HTTP when a private one counts once for each target."
    )
    batch_bytes: int = _setting(
        4 * 1024 * 1024,
        "Largest body of a request to the REST API; also the most bytes of its messages, each counted once for each target.",
    )
    rate_limit: float = _setting(
        200.0, "Frames a second from one connection, requests a second over HTTP; 0: no limits of rate at all."
    )
    rate_burst: float = _setting(400.0, "Frames that a connection may send at once.")
    principal_rate_limit: float = _setting(
        0.0, "Frames a second from all connections of one identity on one process; 0: no limit."
    )
    byte_rate_limit: float = _setting(
        4 * 1024 * 1024.0, "Bytes a second from one connection, or published by one identity over HTTP; 0: no limit."
    )
    bad_frames: float = _setting(50.0, "Refused frames at once before the connection is closed with 4008.")
    bad_credentials: float = _setting(
        30.0,
        "Wrong tokens, JWTs and tickets from one network address at once, then one a second; good ones that were seen before "
        "always pass; 0: no limit.",
    )
    logins: float = _setting(
        10.0, "Log-ins by password that one network address may try at once, then one every three seconds; 0: no limit."
    )
    memberships: int = _setting(100, "Most channels that one client is a member of; 0: no limit.")
    channels_per_client: int = _setting(
        1000, "Most channels that one identity may bring into being by itself; 0: no limit."
    )
    client_ids_per_principal: int = _setting(
        10_000, "Most client_ids that one identity owns, connected or not; 0: no limit."
    )
    connections: int = _setting(20000, "Most connections of one process; 0: no limit.")
    connections_per_principal: int = _setting(
        0, "Most connections of one identity, over all processes (close to it; see docs/security.md); 0: no limit."
    )
    connections_per_address: int = _setting(
        1000, "Most connections from one network address on one process, this machine's own apart; 0: no limit."
    )
    trusted_proxies: int = _setting(0, "How many proxies in front add X-Forwarded-For; 0: the header is not believed.")
    # Slow and silent readers
    send_buffer: int = _setting(
        1024 * 1024, "Bytes waiting for one connection above which it is closed with 4013; at least FRAME_BYTES."
    )
    send_frames: int = _setting(1000, "Frames waiting for one connection above which it is closed with 4013.")
    send_deadline: float = _setting(10.0, "Time in which a connection has to take something of what waits for it.")
    ping_interval: float = _setting(20.0, "Time between pings of a silent connection; 0: none.")
    ping_timeout: float = _setting(20.0, "Time in which a ping has to be answered.")
    # Rooms that are there by themselves
    science_room: bool | None = _setting(
        None, "Make the room science with its channels at each start; unset: in the ready project only."
    )
    system_room: str = _setting(
        "integriguard", "Name of the private room of the bus itself, for telemetry and for what clients do."
    )
    default_channel: str = _setting("science:general", "Where clients are that name no room, as room:channel.")
    # The log
    ring: int = _setting(500, "Messages of a channel kept in memory by each process that has members of it.")
    ring_bytes: int = _setting(1024 * 1024, "Bytes of a channel's messages kept in memory.")
    ring_total: int = _setting(
        256 * 1024 * 1024, "Bytes of all channels' messages in memory above which each channel forgets its older half."
    )
    retention_count: int = _setting(
        100_000, "Messages kept per channel that sets no retention of its own; 0: no limit."
    )
    retention_age: float = _setting(0.0, "Age at which messages of such a channel are dropped; 0: no limit.")
    idempotency_window: float = _setting(
        24 * 3600.0, "How long a repeated message `id` of the same sender is recognised."
    )
    group_commit: int = _setting(2000, "Most messages of one transaction.")
    queue_limit: int = _setting(
        20_000, "Messages waiting for the log above which publishers are told BUSY, those with few of them last."
    )
    queue_bytes: int = _setting(
        64 * 1024 * 1024, "Bytes of messages waiting for the log above which publishers are told BUSY."
    )
    store_timeout: float = _setting(2.0, "Time after which a waiting publish is refused with UNAVAILABLE.")
    prune_interval: float = _setting(
        60.0,
        "Time between sweeps of what the retention lets go and of what nobody uses; 0: none, and the database grows.",
    )
    # Between processes
    bell_shards: int = _setting(64, "Groups over which the channels are spread on the channel layer.")
    bell_buffer: int = _setting(
        8 * 1024 * 1024,
        "Bytes waiting for the channel layer above which messages of ephemeral channels are refused with BUSY, and kept ones "
        "are told of by number only, for the other processes to read.",
    )
    heartbeat: float = _setting(1.0, "Time between a process's looks at the log for what no bell announced.")
    node_heartbeat: float = _setting(2.0, "Time between a process's signs of life.")
    node_timeout: float = _setting(6.0, "Age of the last sign of life at which a process counts as dead.")
    # Presence
    presence: bool = _setting(
        True, "Send client_joined and client_left to the members of rooms that do not say otherwise."
    )
    presence_coalesce: float = _setting(0.2, "Time over which the notices of a busy channel are gathered into one.")
    presence_coalesce_above: int = _setting(200, "Members from which on notices of a channel are gathered.")
    channel_idle: float = _setting(300.0, "Age at which an empty, automatically made channel is removed; 0: never.")
    # Telemetry, logs, stopping
    stats_interval: float = _setting(60.0, "Time between the log's lines of statistics; 0: none.")
    telemetry_interval: float = _setting(5.0, "Time between server_stats events on the telemetry stream; 0: none.")
    log_format: str = _setting("console", "Form of log lines: console or json.")
    log_level: str = _setting("INFO", "Lowest level that is logged.")
    drain_timeout: float = _setting(6.0, "Time that accepted work has to finish when the process stops.")
    retry_spread: float = _setting(5.0, "Time over which clients are told to come back after a restart.")
    writer: str = _setting("auto", "How frames are written: auto, or portable (ASGI send only).")


#: The headings of the documentation: the first setting of each part.
PARTS: dict[str, str] = {
    "anonymous": "Who may come in",
    "frame_bytes": "Limits of a connection",
    "send_buffer": "Slow and silent readers",
    "science_room": "Rooms that are there by themselves",
    "ring": "The log",
    "bell_shards": "Between processes",
    "presence": "Presence",
    "stats_interval": "Telemetry, logs, stopping",
}

#: What a number counts; one that is not named here is a duration in seconds.
UNITS: dict[str, str] = {
    **dict.fromkeys(("frame_bytes", "batch_bytes", "send_buffer", "ring_bytes", "ring_total"), "bytes"),
    **dict.fromkeys(("queue_bytes", "bell_buffer"), "bytes"),
    "byte_rate_limit": "bytes/s",
    **dict.fromkeys(("rate_limit", "principal_rate_limit"), "frames/s"),
    **dict.fromkeys(("rate_burst", "bad_frames", "send_frames"), "frames"),
    "frame_depth": "levels",
    "targets": "clients",
    **dict.fromkeys(("batch", "batch_rows", "ring", "retention_count", "group_commit", "queue_limit"), "messages"),
    **dict.fromkeys(("memberships", "channels_per_client"), "channels"),
    **dict.fromkeys(("connections", "connections_per_principal", "connections_per_address"), "connections"),
    "client_ids_per_principal": "client_ids",
    **dict.fromkeys(("bad_credentials", "logins"), "tries"),
    "trusted_proxies": "proxies",
    "bell_shards": "groups",
    "presence_coalesce_above": "members",
}

#: Where a value must lie; anything else is refused at start with the variable's name.
_CHOICES: dict[str, tuple[str, ...]] = {
    "log_format": ("console", "json"),
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    "writer": ("auto", "portable"),
}
_AT_LEAST_ONE = frozenset(
    {
        "batch",
        "batch_rows",
        "batch_bytes",
        "frame_bytes",
        "frame_depth",
        "targets",
        "ring",
        "ring_total",
        "group_commit",
        "queue_limit",
        "queue_bytes",
        "bell_shards",
        "bell_buffer",
        "ring_bytes",
        "send_buffer",
        "send_frames",
        "bad_frames",
        "rate_burst",
    }
)
_POSITIVE = frozenset(
    {
        "heartbeat",
        "node_heartbeat",
        "node_timeout",
        "store_timeout",
        "send_deadline",
        "drain_timeout",
        "ping_timeout",
        "ticket_lifetime",
        "jwt_jwks_refresh",
    }
)
#: What is done again and again: more often than this (seconds), a process does nothing else.
_OFTEN = 0.05
_INTERVALS = frozenset(
    {
        "heartbeat",
        "node_heartbeat",
        "ping_interval",
        "ping_timeout",
        "prune_interval",
        "revalidate",
        "stats_interval",
        "telemetry_interval",
        "jwt_jwks_refresh",
    }
)
#: The most that a setting may be: ten years for what is a duration, for others what no machine has.
_LONGEST, _MOST = 3650 * 86400, 10**12
#: Those with a bound of their own: each process joins so many groups in Redis.
_MOST_OF = {"bell_shards": 4096, "trusted_proxies": 100}
_JWT_ALGORITHMS = frozenset({"HS256", "RS256", "ES256"})

_TYPES: dict[str, Any] = typing.get_type_hints(Config)
_FRAME_LIMIT = 1024 * 1024


def from_environment(environment: Mapping[str, str], prefix: str = "ARQONBUS_") -> dict[str, Any]:
    """The settings that ``environment`` names, as the dict for ``settings.ARQONBUS``.

    Raises ``ImproperlyConfigured`` with the variable's name for a value of the wrong form.
    """
    return env.read(environment, Config, prefix)


def variable(setting: str) -> str:
    """What a setting is called in the environment."""
    return f"ARQONBUS_{setting.upper()}"


def entry(setting: str) -> str:
    """What a setting is called in the settings file of a host project."""
    return f'ARQONBUS["{setting}"]'


def build(values: Mapping[str, Any], named: Callable[[str], str] = variable) -> Config:
    """A checked :class:`Config` of ``values``; ``named`` says what the one who wrote them calls a setting.

    Raises ``ImproperlyConfigured`` with the name of what is wrong.
    """
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in _TYPES:
            raise ImproperlyConfigured(f"{named(str(key))} is not a setting of ArqonBus.{_near(str(key), named)}")
        given[key] = tuple(value) if isinstance(value, list) else value
        if not env.has_type(given[key], _TYPES[key]):
            wanted = env.type_name(_TYPES[key])
            raise ImproperlyConfigured(f"{named(key)} is {value!r}; it must be {wanted}.")
    result = Config(**given)
    for setting in dataclasses.fields(Config):
        fault = _fault(setting.name, getattr(result, setting.name), result)
        if fault:
            raise ImproperlyConfigured(f"{named(setting.name)} {fault}.")
    return result


def _near(setting: str, named: Callable[[str], str]) -> str:
    """A hint at the setting that was meant."""
    near = difflib.get_close_matches(setting.lower(), _TYPES, n=1)
    return f" Did you mean {named(near[0])}?" if near else ""


def _fault(setting: str, value: Any, whole: Config) -> str | None:
    """What is wrong with a setting's value, as the end of a sentence that begins with its name."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < 0:
            return f"is {value}; it must not be negative"
        if (setting in _AT_LEAST_ONE and value < 1) or (setting in _POSITIVE and value <= 0):
            return f"is {value}; it must be {'at least 1' if setting in _AT_LEAST_ONE else 'above 0'}"
        if setting in _INTERVALS and 0 < value < _OFTEN:
            return f"is {value}; it must be at least {_OFTEN}"
        most = _MOST_OF.get(setting, _MOST if setting in UNITS else _LONGEST)
        if value > most:
            return f"is {value}; it must be at most {most}"
    choices = _CHOICES.get(setting)
    if choices and value not in choices:
        return f"is {value!r}; it must be one of {', '.join(choices)}"
    check = _CHECKS.get(setting)
    return check(value, whole) if check else None


def _frame_bytes(value: int, whole: Config) -> str | None:
    return f"is {value}; the server itself takes {_FRAME_LIMIT} at most" if value > _FRAME_LIMIT else None


def _send_buffer(value: int, whole: Config) -> str | None:
    if value < whole.frame_bytes:
        return f"is {value}; below ARQONBUS_FRAME_BYTES ({whole.frame_bytes}) one message closes whoever is to get it"
    return None


def _algorithms(value: tuple[str, ...], whole: Config) -> str | None:
    if set(value) - _JWT_ALGORITHMS or not value:
        return f"is {', '.join(value) or 'empty'}; it may hold {', '.join(sorted(_JWT_ALGORITHMS))}"
    return None


def _jwt_key(value: str, whole: Config) -> str | None:
    if not value:
        return None
    try:
        algorithm = key_of(value).algorithm
    except ImproperlyConfigured as problem:
        return f"does not hold a key: {problem}"
    if algorithm not in whole.jwt_algorithms:
        return f"holds a key for {algorithm}, which is not among ARQONBUS_JWT_ALGORITHMS"
    return "and ARQONBUS_JWT_JWKS are both set; one of them says where the keys are" if whole.jwt_jwks else None


def _jwks(value: str, whole: Config) -> str | None:
    if not value or "://" not in value:
        return None if not value or Path(value).is_file() else f"is {value!r}; there is no such file"
    parts = urlsplit(value)
    local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme == "https" or local:
        return None
    return f"is {value!r}; keys are fetched by https only (or by http from this machine)"


def _system_room(value: str, whole: Config) -> str | None:
    return (
        None if is_name(value) and value not in (INBOX_ROOM, "science") else f"is {value!r}; it must be a room's name"
    )


def _default_channel(value: str, whole: Config) -> str | None:
    address = parse_address(value)
    return None if address and address.is_channel else f"is {value!r}; it must be room:channel, such as lobby:general"


def _origins(value: tuple[str, ...], whole: Config) -> str | None:
    for origin in value:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            return (
                f"holds {origin!r}; an origin is scheme://host or scheme://host:port, such as https://app.example.com"
            )
        if "*" in origin:
            return f"holds {origin!r}; origins are compared whole, there are no wildcards"
    return None


def _node_timeout(value: float, whole: Config) -> str | None:
    if value < 2 * whole.node_heartbeat:
        return f"is {value}; it must be at least twice ARQONBUS_NODE_HEARTBEAT ({whole.node_heartbeat})"
    return None


_CHECKS: dict[str, Callable[[Any, Config], str | None]] = {
    "frame_bytes": _frame_bytes,
    "send_buffer": _send_buffer,
    "jwt_algorithms": _algorithms,
    "jwt_key": _jwt_key,
    "jwt_jwks": _jwks,
    "allowed_origins": _origins,
    "system_room": _system_room,
    "default_channel": _default_channel,
    "node_timeout": _node_timeout,
}


@lru_cache(maxsize=1)
def config() -> Config:
    """The settings in force, read once."""
    # The ready project has built them once by their names in the environment: what is wrong now is a settings file.
    return build(getattr(settings, "ARQONBUS", {}), entry)


def anonymous_allowed() -> bool:
    """Whether unidentified clients are let in: by the setting, else in DEBUG only (contract §6)."""
    allowed = config().anonymous
    return bool(settings.DEBUG) if allowed is None else allowed


def telemetry_anonymous_allowed() -> bool:
    """Whether unidentified clients may use the telemetry socket: by its setting, else as on the bus."""
    allowed = config().telemetry_anonymous
    return anonymous_allowed() if allowed is None else allowed


#: How several processes come to one channel layer, in the ready project and in others.
LAYER_HINT = "Give all processes one Redis: REDIS_URL in the ready project, CHANNEL_LAYERS in a project of your own."


def documentation() -> Path | None:
    """The folder with the pages of the documentation: in the package, or beside the app in a checkout; None for neither."""
    app = Path(__file__).resolve().parent.parent
    return next((folder for folder in (app / "docs", app.parent / "docs") if (folder / "index.md").is_file()), None)


def ready_made() -> bool:
    """Whether this is the project of this repository, with its Makefile, or one of somebody else."""
    return str(settings.ROOT_URLCONF).startswith("arqonbus_site")


def in_memory_layer() -> bool:
    """Whether processes cannot ring each other's bells."""
    backend = (getattr(settings, "CHANNEL_LAYERS", {}) or {}).get("default", {}).get("BACKEND", "")
    return not backend or backend.endswith("InMemoryChannelLayer")


def default_address() -> Address:
    """Where clients are that name no room."""
    return parse_address(config().default_channel) or DEFAULT_ADDRESS


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "ARQONBUS":
        config.cache_clear()


setting_changed.connect(_forget, dispatch_uid="arqonbus.conf")


def development_notice() -> str:
    """What a server in development mode says of itself, in one line."""
    come_in = "anonymous clients are let in" if anonymous_allowed() else "clients have to identify themselves"
    # A project of one's own has a key of its own.
    generated = getattr(settings, "DEVELOPMENT_KEY", False)
    key = "the secret key is a generated one kept beside the database, " if generated else ""
    return f"Development mode: DEBUG is on, {key}{come_in}. For production set DEBUG=0, SECRET_KEY and ALLOWED_HOSTS."
