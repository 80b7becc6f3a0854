"""The table of all settings of the bus: name, type, bounds, unit, meaning and default.

``docs/configuration.md`` is made from this table. A field's type and bounds are checked by msgspec; rules that concern
more than a number's size are in ``bus.conf.rules``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

#: Upper bounds: ten years for a duration in seconds, and a count above the capacity of any machine.
LONGEST, MOST = 3650 * 86400, 10**12
#: Shortest interval of repeated work, in seconds. With a shorter one a process does nothing else.
OFTEN = 0.05
#: Largest frame that the servers accept, in bytes.
SERVER_FRAME_BYTES = 1024 * 1024


def about(meaning: str) -> msgspec.Meta:
    """The metadata of a setting that is not a number: its meaning."""
    return msgspec.Meta(description=meaning)


def amount(unit: str, meaning: str, **bounds: Any) -> msgspec.Meta:
    """The metadata of a non-negative number of ``unit``, with bounds under msgspec's names (``ge``, ``gt``, ``le``)."""
    bounds = {"le": MOST, **({} if "gt" in bounds else {"ge": 0}), **bounds}
    return msgspec.Meta(description=meaning, extra={"unit": unit}, **bounds)


def seconds(meaning: str, *, shortest: float = 0.0, **bounds: Any) -> msgspec.Meta:
    """The metadata of a duration in seconds. ``shortest`` is the smallest value apart from 0."""
    bounds = {"le": LONGEST, **({} if "gt" in bounds else {"ge": 0}), **bounds}
    return msgspec.Meta(description=meaning, extra={"unit": "s", "shortest": shortest}, **bounds)


# fmt: off
class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the bus. Sizes are in bytes and durations in seconds. 0 switches a limit off if its meaning says so."""

    # Access and identity
    anonymous: Annotated[bool | None, about("Accept clients without authentication; unset: as DEBUG.")] = None
    auto_create: Annotated[bool, about("Create a missing room or channel on the first join or publish.")] = True
    token_in_url: Annotated[bool, about("Accept access tokens in the query string. Such tokens appear in the logs of proxies.")] = False
    allowed_origins: Annotated[tuple[str, ...], about("Origins of browser pages allowed besides ALLOWED_HOSTS, on sockets and over REST (CORS), as scheme://host[:port].")] = ()
    telemetry_anonymous: Annotated[bool | None, about("Accept clients without authentication on the telemetry socket; unset: as `anonymous`.")] = None
    registration_deadline: Annotated[float, seconds("Seconds a client has after connecting to send its first frame; 0: no deadline.")] = 30.0
    handshake_timeout: Annotated[float, seconds("Seconds a new connection has to send its complete request or handshake; 0: the server's own limit.")] = 10.0
    resume_window: Annotated[float, seconds("Seconds for which a resume token is valid after a disconnect. An anonymous client is forgotten after the same time.")] = 86400.0
    ticket_lifetime: Annotated[float, seconds("Seconds for which a ticket is valid. A ticket opens one connection of a browser.", gt=0)] = 30.0
    identify: Annotated[str, about("Dotted path of a function of the project that returns the user of a bearer text, for its own tokens; empty: none.")] = ""
    jwt_key: Annotated[str, about("Key for JWT: a shared secret (HS256) or a PEM public key (RS256, ES256); empty: no JWT.")] = ""
    jwt_jwks: Annotated[str, about("Path or https URL of a JWKS document with the keys for JWT.")] = ""
    jwt_jwks_refresh: Annotated[float, seconds("Seconds after which the JWKS document is read again.", ge=0.05)] = 300.0
    jwt_algorithms: Annotated[tuple[str, ...], about("Accepted JWT algorithms. Each key works with one of them only.")] = ("HS256", "RS256", "ES256")
    jwt_audience: Annotated[str, about("Audience (`aud`) that a JWT must name; empty: any.")] = ""
    jwt_issuer: Annotated[str, about("Issuer (`iss`) that a JWT must name; empty: any.")] = ""
    jwt_leeway: Annotated[float, seconds("Allowed difference between the clocks of the JWT issuer and this server.")] = 10.0
    jwt_admin_claim: Annotated[str, about("Claim that makes the bearer of a JWT an admin if it is true; empty: no admins by JWT.")] = ""
    jwt_groups_claim: Annotated[str, about("Claim with the group names for grants, as a list or separated by spaces.")] = ""
    jwt_scope_claim: Annotated[str, about("Claim with the allowed actions of a JWT (join, publish, …); empty: all actions.")] = ""
    revalidate: Annotated[float, seconds("Seconds between checks that every connected client still has access. Known changes take effect at once; 0: no checks.", shortest=OFTEN)] = 60.0
    # Limits of a connection
    frame_bytes: Annotated[int, amount("bytes", "Largest accepted frame. Above the server's own limit of 1 MiB the connection is closed with 1009.", ge=1, le=SERVER_FRAME_BYTES)] = 262144
    frame_depth: Annotated[int, amount("levels", "Deepest nesting of a frame's JSON.", ge=1)] = 32
    targets: Annotated[int, amount("clients", "Maximum number of targets of one private message.", ge=1)] = 100
    batch: Annotated[int, amount("messages", "Maximum number of messages in one batch over HTTP.", ge=1)] = 500
    batch_rows: Annotated[int, amount("messages", "Maximum number of messages in one HTTP request, where a private message counts once for each target.", ge=1)] = 2000
    batch_bytes: Annotated[int, amount("bytes", "Largest body of a REST request. Also the limit for the bytes of its messages, where a private message counts once for each target.", ge=1)] = 4194304
    rate_limit: Annotated[float, amount("frames/s", "Frames a second from one connection, and requests a second of one caller over HTTP to one process; 0: no rate limits at all.")] = 200.0
    rate_burst: Annotated[float, amount("frames", "Frames that a connection may send at once, and requests of one caller over HTTP to one process.", ge=1)] = 400.0
    principal_rate_limit: Annotated[float, amount("frames/s", "Frames a second from all connections of one identity to one process; 0: no limit.")] = 0.0
    byte_rate_limit: Annotated[float, amount("bytes/s", "Bytes a second from one connection, or published by one identity over HTTP to one process; 0: no limit.")] = 4194304.0
    bad_frames: Annotated[float, amount("frames", "Invalid frames at once after which the connection is closed with 4008.", ge=1)] = 50.0
    bad_credentials: Annotated[float, amount("tries", "Wrong tokens, JWTs and tickets at once from one network address to one process, and then one a second. Known valid ones always pass; 0: no limit.")] = 30.0
    logins: Annotated[float, amount("tries", "Password log-ins at once from one network address to one process, and then one every three seconds; 0: no limit.")] = 10.0
    memberships: Annotated[int, amount("channels", "Maximum number of channels that one client may join; 0: no limit.")] = 100
    followed: Annotated[int, amount("channels", "Maximum number of channels that one connection may follow through their rooms.", ge=1, le=10000)] = 1000
    channels_per_client: Annotated[int, amount("channels", "Maximum number of channels that one identity may create by joining or publishing, over all processes; 0: no limit.")] = 1000
    client_ids_per_principal: Annotated[int, amount("client_ids", "Maximum number of client_ids of one identity, connected or not, over all processes; 0: no limit.")] = 10000
    connections: Annotated[int, amount("connections", "Maximum number of connections of one process; 0: no limit.")] = 20000
    connections_per_principal: Annotated[int, amount("connections", "Maximum number of connections of one identity over all processes, approximately (see docs/security.md, Limits); 0: no limit.")] = 0
    connections_per_address: Annotated[int, amount("connections", "Maximum number of connections from one network address to one process. The machine itself has no limit; 0: no limit.")] = 1000
    trusted_proxies: Annotated[int, amount("proxies", "Number of proxies in front that add X-Forwarded-For; 0: the header is ignored.", le=100)] = 0
    # Slow and silent readers
    send_buffer: Annotated[int, amount("bytes", "Bytes that may wait for one connection. Above it the connection is closed with 4013. At least FRAME_BYTES.", ge=1)] = 1048576
    send_frames: Annotated[int, amount("frames", "Frames that may wait for one connection. Above it the connection is closed with 4013.", ge=1)] = 1000
    send_deadline: Annotated[float, seconds("Seconds within which a connection must read some of the data that waits for it.", gt=0)] = 10.0
    ping_interval: Annotated[float, seconds("Seconds between pings on a silent connection; 0: no pings.", shortest=OFTEN)] = 20.0
    ping_timeout: Annotated[float, seconds("Seconds within which a client must answer a ping.", ge=0.05)] = 20.0
    # Built-in rooms
    science_room: Annotated[bool | None, about("Create the room science with its channels at each start; unset: in the ready-made project only.")] = None
    system_room: Annotated[str, about("Name of the private room for telemetry and for the activity of clients.")] = "integriguard"
    default_channel: Annotated[str, about("Channel of clients that name no room, as room:channel.")] = "science:general"
    # The log
    ring: Annotated[int, amount("messages", "Messages of a channel in the memory of each process that has members of it.", ge=1)] = 500
    ring_bytes: Annotated[int, amount("bytes", "Bytes of a channel's messages in the memory of each process.", ge=1)] = 1048576
    ring_total: Annotated[int, amount("bytes", "Bytes of all channels' messages in the memory of one process. Above it each channel drops its older half from memory.", ge=1)] = 268435456
    retention_count: Annotated[int, amount("messages", "Messages kept for each channel without its own retention; 0: no limit.")] = 100000
    retention_age: Annotated[float, seconds("Age at which messages of such a channel are removed; 0: no limit.")] = 0.0
    idempotency_window: Annotated[float, seconds("Seconds for which a repeated message `id` of the same sender is recognised.")] = 86400.0
    group_commit: Annotated[int, amount("messages", "Maximum number of messages in one transaction.", ge=1)] = 2000
    queue_limit: Annotated[int, amount("messages", "Messages that may wait for the log in one process. Above it publishers get BUSY; those with few waiting messages get it last.", ge=1)] = 20000
    queue_bytes: Annotated[int, amount("bytes", "Bytes of messages that may wait for the log in one process. Above it publishers get BUSY.", ge=1)] = 67108864
    store_timeout: Annotated[float, seconds("Seconds after which a waiting publish is refused with UNAVAILABLE.", gt=0)] = 2.0
    gate_threads: Annotated[int, amount("threads", "Threads of a process that run the gates of the project for messages of sockets, each with a connection to the database. At most 4 times as many, while gates take longer than `gate_timeout`.", ge=1, le=256)] = 4
    gate_timeout: Annotated[float, seconds("Seconds that a message may wait for the gates of its channel. Then its publisher gets UNAVAILABLE and nothing is kept.", gt=0)] = 2.0
    prune_interval: Annotated[float, seconds("Seconds between removals of old messages (retention) and unused rooms, channels and clients. One process does it for all; 0: this process never does, and with 0 everywhere the database grows.", shortest=OFTEN)] = 60.0
    history_database: Annotated[str, about("Alias in DATABASES of a read replica for pages of history. A page comes from it where it has all that the page needs; empty: none.")] = ""
    # Streamed messages
    streams: Annotated[int, amount("streams", "Maximum number of open streams of one client, over all processes; 0: no limit.")] = 20
    stream_grace: Annotated[float, seconds("Seconds without its owner after which a stream is ended as aborted. Also the time that an owner has to follow a stop.", gt=0)] = 30.0
    stream_rest_grace: Annotated[float, seconds("Seconds without an append after which a stream of an owner over REST or in Django code is ended as aborted.", gt=0)] = 120.0
    stream_idle: Annotated[float, seconds("Seconds without an append after which the stream of a connected owner is ended as aborted; 0: never. A stream that was opened 24 times as long ago is ended too.")] = 3600.0
    # Leased work and questions
    claims: Annotated[int, amount("jobs", "Maximum number of claimed jobs of one client, over all processes; 0: no limit.")] = 1000
    claim_grace: Annotated[float, seconds("Seconds without its connection after which a worker's jobs are out again.", gt=0)] = 10.0
    claim_hold: Annotated[float, seconds("Seconds after which a claim ends however often it is renewed, for new work channels that set no `hold`.", ge=1, le=604800)] = 3600.0
    asks: Annotated[int, amount("asks", "Maximum number of open questions of one client, over all processes; 0: no limit.")] = 1000
    ask_timeout: Annotated[float, seconds("Longest time in seconds that a question may wait for its reply.", ge=0.1)] = 86400.0
    # Between processes
    bell_shards: Annotated[int, amount("groups", "Has no effect any more: each channel has a topic of its own.", ge=1, le=4096)] = 64
    bell_buffer: Annotated[int, amount("bytes", "Bytes that may wait for the channel layer in one process. Above it ephemeral messages are refused with BUSY, and stored messages are announced by number only.", ge=1)] = 8388608
    heartbeat: Annotated[float, seconds("Seconds between reads of the log for messages that no notification announced.", ge=0.05)] = 1.0
    node_heartbeat: Annotated[float, seconds("Seconds between heartbeats of a process in the database.", ge=0.05)] = 2.0
    node_timeout: Annotated[float, seconds("Age of the last heartbeat at which a process counts as dead.", gt=0)] = 6.0
    # Presence
    presence: Annotated[bool, about("Send client_joined and client_left to the members of a channel. Each room can override this.")] = True
    presence_coalesce: Annotated[float, seconds("Seconds over which the presence notices of a large channel are combined into one; above 1,000 members longer, in proportion.")] = 0.2
    presence_coalesce_above: Annotated[int, amount("members", "Number of members above which the presence notices of a channel are combined.")] = 200
    channel_idle: Annotated[float, seconds("Seconds after which an empty channel that was created automatically is removed; 0: never.")] = 300.0
    # Telemetry, logs, stopping
    stats_interval: Annotated[float, seconds("Seconds between log lines with statistics; 0: none.", shortest=OFTEN)] = 60.0
    telemetry_interval: Annotated[float, seconds("Seconds between server_stats events on the telemetry stream; 0: none.", shortest=OFTEN)] = 5.0
    log_format: Annotated[Literal["console", "json"], about("Format of log lines: console or json.")] = "console"
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], about("Lowest level that is logged.")] = "INFO"
    drain_timeout: Annotated[float, seconds("Seconds that accepted work has to finish when the process stops.", gt=0)] = 6.0
    retry_spread: Annotated[float, seconds("Period in seconds over which the reconnects of clients are spread after a restart.")] = 5.0
    loop: Annotated[Literal["auto", "asyncio", "uvloop"], about("Event loop of daphne and of runbus: auto (daphne runs on asyncio, uvicorn on uvloop if it is installed), asyncio, or uvloop.")] = "auto"
    writer: Annotated[Literal["auto", "portable"], about("How frames are written: auto, or portable (only the ASGI send function).")] = "auto"
# fmt: on


#: The headings of the documentation: the first setting of each part.
PARTS: dict[str, str] = {
    "anonymous": "Access and identity",
    "frame_bytes": "Limits of a connection",
    "send_buffer": "Slow and silent readers",
    "science_room": "Built-in rooms",
    "ring": "The log",
    "streams": "Streamed messages",
    "claims": "Leased work and questions",
    "bell_shards": "Between processes",
    "presence": "Presence",
    "stats_interval": "Telemetry, logs, stopping",
}
