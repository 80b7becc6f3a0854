"""The project's own variables (the bus's: ``bus.conf.table``), in one table. ``docs/configuration.md`` shows both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import msgspec

from bus.conf import parsing
from bus.conf.table import about, amount, seconds


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says of the site."""

    debug: Annotated[
        bool, about("Development mode: tracebacks, a generated key, anonymous clients. Off in production.")
    ] = True
    secret_key: Annotated[
        str, about("Signs sessions and tickets; needed with DEBUG=0. A long random text, kept secret.")
    ] = ""
    secret_key_fallbacks: Annotated[tuple[str, ...], about("Earlier keys whose signatures are still taken.")] = ()
    allowed_hosts: Annotated[
        tuple[str, ...], about("Host names of the site, such as bus.example.com; needed with DEBUG=0.")
    ] = ()
    database_url: Annotated[
        str,
        about("sqlite:////path/to/file.sqlite3 or postgres://user:password@host:5432/name; unset: SQLite under var/."),
    ] = ""
    database_pool: Annotated[
        int, amount("connections", "Most connections of one process to PostgreSQL.", ge=5, le=10_000)
    ] = 8
    redis_url: Annotated[
        str, about("Redis between the processes, such as redis://localhost:6379/0; unset: one process alone.")
    ] = ""
    redis_prefix: Annotated[str, about("What the bus's keys in Redis begin with.")] = "arqonbus"
    redis_capacity: Annotated[
        int,
        amount(
            "bells",
            "Bells that may wait for one process; those above are dropped, and found in the log.",
            ge=1,
            le=10**9,
        ),
    ] = 10000
    redis_expiry: Annotated[
        int,
        seconds(
            "Time after which a bell that a process has not taken is dropped, and found in the log.", ge=1, le=86_400
        ),
    ] = 20
    redis_group_expiry: Annotated[
        int, seconds("Time after which Redis forgets a process that does not renew its memberships.", ge=1, le=10**9)
    ] = 300
    insecure_http: Annotated[
        bool, about("Serve plain HTTP in production: cookies without Secure, no redirect, no HSTS.")
    ] = False
    behind_proxy: Annotated[
        bool,
        about("Believe X-Forwarded-Proto: a proxy in front ends TLS and sets it. See ARQONBUS_TRUSTED_PROXIES too."),
    ] = False
    ssl_redirect: Annotated[bool, about("Send http requests to https (with DEBUG=0).")] = True
    hsts_seconds: Annotated[
        int, seconds("How long browsers shall come by https only (with DEBUG=0); 0: no HSTS.", le=10**9)
    ] = 31536000
    hsts_subdomains: Annotated[bool, about("HSTS for all names below the site's, and for browsers' preload lists.")] = (
        True
    )
    csrf_trusted_origins: Annotated[
        tuple[str, ...], about("Origins besides the site's own whose forms are taken, as https://host.")
    ] = ()


def read(variables: Mapping[str, str] | None = None) -> Site:
    """The site's settings. Raises ``ImproperlyConfigured`` with the name of a variable that is wrong."""
    return Site(**parsing.read(os.environ if variables is None else variables, Site))
