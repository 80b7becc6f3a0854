"""The table of all settings of the bus: name, type, bounds, unit, meaning and default.

``docs/configuration.md`` is made from this table. A field's type and bounds are checked by msgspec; rules that concern
more than a number's size are in ``bus.conf.rules``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

#: The most that a setting may be: ten years for a duration in seconds, and more than any machine has for a count.
LONGEST, MOST = 3650 * 86400, 10**12
#: Shortest interval of repeated work, in seconds. With a shorter one a process does nothing else.
OFTEN = 0.05
#: Largest frame that the servers take, in bytes.
SERVER_FRAME_BYTES = 1024 * 1024


def about(meaning: str) -> msgspec.Meta:
    """A setting that is no number, and its meaning."""
    return msgspec.Meta(description=meaning)


def amount(unit: str, meaning: str, **bounds: Any) -> msgspec.Meta:
    """A number of ``unit``, with bounds by msgspec's names (``ge``, ``gt``, ``le``). It is not negative."""
    bounds = {"le": MOST, **({} if "gt" in bounds else {"ge": 0}), **bounds}
    return msgspec.Meta(description=meaning, extra={"unit": unit}, **bounds)


def seconds(meaning: str, *, shortest: float = 0.0, **bounds: Any) -> msgspec.Meta:
    """A duration in seconds. ``shortest`` is the smallest value beside 0."""
    bounds = {"le": LONGEST, **({} if "gt" in bounds else {"ge": 0}), **bounds}
    return msgspec.Meta(description=meaning, extra={"unit": "s", "shortest": shortest}, **bounds)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bus's settings. Sizes are bytes and durations seconds unless said; 0 switches a limit off where that is said."""

    # Who may come in
    anonymous: Annotated[bool | None, about("Let clients in that do not identify themselves; unset: as DEBUG.")] = None
    auto_create: Annotated[bool, about("Create a missing room or channel on the first join or publish.")] = True
    token_in_url: Annotated[bool, about("Take access tokens from the query string (they end up in proxies' logs).")] = (
        False
    )
    allowed_origins: Annotated[
        tuple[str, ...],
        about(
            "Origins of browser pages allowed besides ALLOWED_HOSTS, on sockets and over REST (CORS), as scheme://host[:port]."
        ),
    ] = ()
    telemetry_anonymous: Annotated[
        bool | None, about("Let unidentified clients use the telemetry socket; unset: as `anonymous`.")
    ] = None
    registration_deadline: Annotated[
        float, seconds("Time after connecting in which a client has to send its first frame; 0: no deadline.")
    ] = 30.0
    handshake_timeout: Annotated[
        float,
        seconds("Time in which a new connection has to say its request or handshake as a whole; 0: the server's own."),
    ] = 10.0
    resume_window: Annotated[
        float,
        seconds("How long a resume token is good after the connection is gone, and an anonymous client is remembered."),
    ] = 86400.0
    ticket_lifetime: Annotated[float, seconds("How long a browser's single-use connection ticket is good.", gt=0)] = (
        30.0
    )
    jwt_key: Annotated[
        str, about("Key for JWT: a shared secret (HS256) or a PEM public key (RS256, ES256); empty: no JWT.")
    ] = ""
    jwt_jwks: Annotated[str, about("Path or https URL of a JWKS document with the keys for JWT.")] = ""
    jwt_jwks_refresh: Annotated[float, seconds("Age at which the JWKS document is read again.", ge=0.05)] = 300.0
    jwt_algorithms: Annotated[
        tuple[str, ...], about("Algorithms taken for JWT; a key is only ever used with the one of its kind.")
    ] = ("HS256", "RS256", "ES256")
    jwt_audience: Annotated[str, about("Audience (`aud`) that a JWT must name; empty: any.")] = ""
    jwt_issuer: Annotated[str, about("Issuer (`iss`) that a JWT must name; empty: any.")] = ""
    jwt_leeway: Annotated[float, seconds("How far the clock of a JWT's issuer may differ from ours.")] = 10.0
    jwt_admin_claim: Annotated[
        str, about("Claim that, when true, makes the bearer of a JWT an admin; empty: none does.")
    ] = ""
    jwt_groups_claim: Annotated[
        str, about("Claim with the names of groups for grants, as a list or with spaces between.")
    ] = ""
    jwt_scope_claim: Annotated[
        str, about("Claim with the actions that a JWT is good for (join, publish, …); empty: no bounds.")
    ] = ""
    revalidate: Annotated[
        float,
        seconds(
            "Time between looks at whether all who are connected may still be; changes known of act at once; 0: none.",
            shortest=OFTEN,
        ),
    ] = 60.0
    # Limits of a connection
    frame_bytes: Annotated[
        int,
        amount(
            "bytes",
            "Largest frame taken; above the server's own 1 MiB the server closes with 1009.",
            ge=1,
            le=SERVER_FRAME_BYTES,
        ),
    ] = 262144
    frame_depth: Annotated[int, amount("levels", "Deepest nesting of a frame's JSON.", ge=1)] = 32
    targets: Annotated[int, amount("clients", "Most targets of one private message.", ge=1)] = 100
    batch: Annotated[int, amount("messages", "Most messages of one batch over HTTP.", ge=1)] = 500
    batch_rows: Annotated[
        int,
        amount(
            "messages", "Most messages of one request over HTTP when a private one counts once for each target.", ge=1
        ),
    ] = 2000
    batch_bytes: Annotated[
        int,
        amount(
            "bytes",
            "Largest body of a request to the REST API; also the most bytes of its messages, each counted once for each target.",
            ge=1,
        ),
    ] = 4194304
    rate_limit: Annotated[
        float,
        amount(
            "frames/s", "Frames a second from one connection, requests a second over HTTP; 0: no limits of rate at all."
        ),
    ] = 200.0
    rate_burst: Annotated[float, amount("frames", "Frames that a connection may send at once.", ge=1)] = 400.0
    principal_rate_limit: Annotated[
        float, amount("frames/s", "Frames a second from all connections of one identity on one process; 0: no limit.")
    ] = 0.0
    byte_rate_limit: Annotated[
        float,
        amount("bytes/s", "Bytes a second from one connection, or published by one identity over HTTP; 0: no limit."),
    ] = 4194304.0
    bad_frames: Annotated[
        float, amount("frames", "Refused frames at once before the connection is closed with 4008.", ge=1)
    ] = 50.0
    bad_credentials: Annotated[
        float,
        amount(
            "tries",
            "Wrong tokens, JWTs and tickets from one network address at once, then one a second; good ones that were seen before always pass; 0: no limit.",
        ),
    ] = 30.0
    logins: Annotated[
        float,
        amount(
            "tries",
            "Log-ins by password that one network address may try at once, then one every three seconds; 0: no limit.",
        ),
    ] = 10.0
    memberships: Annotated[int, amount("channels", "Most channels that one client is a member of; 0: no limit.")] = 100
    channels_per_client: Annotated[
        int, amount("channels", "Most channels that one identity may bring into being by itself; 0: no limit.")
    ] = 1000
    client_ids_per_principal: Annotated[
        int, amount("client_ids", "Most client_ids that one identity owns, connected or not; 0: no limit.")
    ] = 10000
    connections: Annotated[int, amount("connections", "Most connections of one process; 0: no limit.")] = 20000
    connections_per_principal: Annotated[
        int,
        amount(
            "connections",
            "Most connections of one identity, over all processes (close to it; see docs/security.md); 0: no limit.",
        ),
    ] = 0
    connections_per_address: Annotated[
        int,
        amount(
            "connections",
            "Most connections from one network address on one process, this machine's own apart; 0: no limit.",
        ),
    ] = 1000
    trusted_proxies: Annotated[
        int, amount("proxies", "How many proxies in front add X-Forwarded-For; 0: the header is not believed.", le=100)
    ] = 0
    # Slow and silent readers
    send_buffer: Annotated[
        int,
        amount(
            "bytes", "Bytes waiting for one connection above which it is closed with 4013; at least FRAME_BYTES.", ge=1
        ),
    ] = 1048576
    send_frames: Annotated[
        int, amount("frames", "Frames waiting for one connection above which it is closed with 4013.", ge=1)
    ] = 1000
    send_deadline: Annotated[
        float, seconds("Time in which a connection has to take something of what waits for it.", gt=0)
    ] = 10.0
    ping_interval: Annotated[float, seconds("Time between pings of a silent connection; 0: none.", shortest=OFTEN)] = (
        20.0
    )
    ping_timeout: Annotated[float, seconds("Time in which a ping has to be answered.", ge=0.05)] = 20.0
    # Rooms that are there by themselves
    science_room: Annotated[
        bool | None, about("Make the room science with its channels at each start; unset: in the ready project only.")
    ] = None
    system_room: Annotated[
        str, about("Name of the private room of the bus itself, for telemetry and for what clients do.")
    ] = "integriguard"
    default_channel: Annotated[str, about("Where clients are that name no room, as room:channel.")] = "science:general"
    # The log
    ring: Annotated[
        int, amount("messages", "Messages of a channel kept in memory by each process that has members of it.", ge=1)
    ] = 500
    ring_bytes: Annotated[int, amount("bytes", "Bytes of a channel's messages kept in memory.", ge=1)] = 1048576
    ring_total: Annotated[
        int,
        amount(
            "bytes", "Bytes of all channels' messages in memory above which each channel forgets its older half.", ge=1
        ),
    ] = 268435456
    retention_count: Annotated[
        int, amount("messages", "Messages kept per channel that sets no retention of its own; 0: no limit.")
    ] = 100000
    retention_age: Annotated[float, seconds("Age at which messages of such a channel are dropped; 0: no limit.")] = 0.0
    idempotency_window: Annotated[
        float, seconds("How long a repeated message `id` of the same sender is recognised.")
    ] = 86400.0
    group_commit: Annotated[int, amount("messages", "Most messages of one transaction.", ge=1)] = 2000
    queue_limit: Annotated[
        int,
        amount(
            "messages",
            "Messages waiting for the log above which publishers are told BUSY, those with few of them last.",
            ge=1,
        ),
    ] = 20000
    queue_bytes: Annotated[
        int, amount("bytes", "Bytes of messages waiting for the log above which publishers are told BUSY.", ge=1)
    ] = 67108864
    store_timeout: Annotated[
        float, seconds("Time after which a waiting publish is refused with UNAVAILABLE.", gt=0)
    ] = 2.0
    prune_interval: Annotated[
        float,
        seconds(
            "Time between sweeps of what the retention lets go and of what nobody uses; 0: none, and the database grows.",
            shortest=OFTEN,
        ),
    ] = 60.0
    # Between processes
    bell_shards: Annotated[
        int, amount("groups", "Groups over which the channels are spread on the channel layer.", ge=1, le=4096)
    ] = 64
    bell_buffer: Annotated[
        int,
        amount(
            "bytes",
            "Bytes waiting for the channel layer above which messages of ephemeral channels are refused with BUSY, and kept ones are told of by number only, for the other processes to read.",
            ge=1,
        ),
    ] = 8388608
    heartbeat: Annotated[
        float, seconds("Time between a process's looks at the log for what no bell announced.", ge=0.05)
    ] = 1.0
    node_heartbeat: Annotated[float, seconds("Time between a process's signs of life.", ge=0.05)] = 2.0
    node_timeout: Annotated[float, seconds("Age of the last sign of life at which a process counts as dead.", gt=0)] = (
        6.0
    )
    # Presence
    presence: Annotated[
        bool, about("Send client_joined and client_left to the members of rooms that do not say otherwise.")
    ] = True
    presence_coalesce: Annotated[
        float, seconds("Time over which the notices of a busy channel are gathered into one.")
    ] = 0.2
    presence_coalesce_above: Annotated[
        int, amount("members", "Members from which on notices of a channel are gathered.")
    ] = 200
    channel_idle: Annotated[
        float, seconds("Age at which an empty, automatically made channel is removed; 0: never.")
    ] = 300.0
    # Telemetry, logs, stopping
    stats_interval: Annotated[
        float, seconds("Time between the log's lines of statistics; 0: none.", shortest=OFTEN)
    ] = 60.0
    telemetry_interval: Annotated[
        float, seconds("Time between server_stats events on the telemetry stream; 0: none.", shortest=OFTEN)
    ] = 5.0
    log_format: Annotated[Literal["console", "json"], about("Form of log lines: console or json.")] = "console"
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], about("Lowest level that is logged.")
    ] = "INFO"
    drain_timeout: Annotated[float, seconds("Time that accepted work has to finish when the process stops.", gt=0)] = (
        6.0
    )
    retry_spread: Annotated[float, seconds("Time over which clients are told to come back after a restart.")] = 5.0
    writer: Annotated[
        Literal["auto", "portable"], about("How frames are written: auto, or portable (ASGI send only).")
    ] = "auto"


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
