"""The table of the site's variables. Those of the bus are in ``bus.conf.table``; ``docs/configuration.md`` shows both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import msgspec

from bus.conf import parsing
from bus.conf.table import about, amount, seconds


# fmt: off
class Site(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the site, from the environment."""

    debug: Annotated[bool, about("Development mode: tracebacks, a generated key, anonymous clients. Switch it off in production.")] = True
    secret_key: Annotated[str, about("Signs sessions and tickets. A long random text, kept secret. Required with DEBUG=0.")] = ""
    secret_key_fallbacks: Annotated[tuple[str, ...], about("Earlier secret keys whose signatures are still valid.")] = ()
    allowed_hosts: Annotated[tuple[str, ...], about("Host names of the site, such as bus.example.com. Required with DEBUG=0.")] = ()
    database_url: Annotated[str, about("sqlite:////path/to/file.sqlite3 or postgres://user:password@host:5432/name; unset: SQLite under var/.")] = ""
    database_pool: Annotated[int, amount("connections", "Maximum number of connections from one process to PostgreSQL.", ge=5, le=10_000)] = 12
    history_database_url: Annotated[str, about("A read replica of the database, from which pages of history come; unset: none.")] = ""
    redis_url: Annotated[str, about("Redis that connects the processes, such as redis://localhost:6379/0; unset: a single process.")] = ""
    redis_prefix: Annotated[str, about("Prefix of the bus's channels and keys in Redis.")] = "arqonbus"
    redis_capacity: Annotated[int, amount("notifications", "Messages that may wait for one consumer of the channel layer. The bus itself does not use it: its notifications wait nowhere in Redis.", ge=1, le=10**9)] = 10000
    redis_expiry: Annotated[int, seconds("Seconds after which an unread message of the channel layer is dropped. The bus itself does not use it.", ge=1, le=86_400)] = 20
    redis_group_expiry: Annotated[int, seconds("Seconds after which the channel layer forgets a membership of a group. The bus itself does not use it.", ge=1, le=10**9)] = 300
    insecure_http: Annotated[bool, about("Serve plain HTTP in production: cookies without Secure, no redirect to https, no HSTS.")] = False
    behind_proxy: Annotated[bool, about("Trust X-Forwarded-Proto. Set this if a proxy in front ends TLS and sets the header. See ARQONBUS_TRUSTED_PROXIES too.")] = False
    ssl_redirect: Annotated[bool, about("Redirect http requests to https (with DEBUG=0).")] = True
    hsts_seconds: Annotated[int, seconds("Seconds for which browsers must use https only (with DEBUG=0); 0: no HSTS.", le=10**9)] = 31536000
    hsts_subdomains: Annotated[bool, about("Apply HSTS to all subdomains of the site, and allow browsers' preload lists.")] = True
    csrf_trusted_origins: Annotated[tuple[str, ...], about("Other origins whose forms the site accepts, as https://host.")] = ()
# fmt: on


def read(variables: Mapping[str, str] | None = None) -> Site:
    """The site's settings. Raises ``ImproperlyConfigured`` with the name of the invalid variable."""
    return Site(**parsing.read(os.environ if variables is None else variables, Site))
