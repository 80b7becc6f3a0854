"""The project's own variables (the bus's: ``bus.conf.settings``), in one table. ``docs/configuration.md`` shows both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from bus.conf import parsing as environment
from bus.conf.parsing import setting


@dataclass(frozen=True)
class Site:
    """What the environment says of the site."""

    debug: bool = setting(True, "Development mode: tracebacks, a generated key, anonymous clients. Off in production.")
    secret_key: str = setting("", "Signs sessions and tickets; needed with DEBUG=0. A long random text, kept secret.")
    secret_key_fallbacks: tuple[str, ...] = setting([], "Earlier keys whose signatures are still taken.")
    allowed_hosts: tuple[str, ...] = setting(
        [], "Host names of the site, such as bus.example.com; needed with DEBUG=0."
    )
    database_url: str = setting(
        "", "sqlite:////path/to/file.sqlite3 or postgres://user:password@host:5432/name; unset: SQLite under var/."
    )
    database_pool: int = setting(8, "Most connections of one process to PostgreSQL.", "connections")
    redis_url: str = setting(
        "", "Redis between the processes, such as redis://localhost:6379/0; unset: one process alone."
    )
    redis_prefix: str = setting("arqonbus", "What the bus's keys in Redis begin with.")
    redis_capacity: int = setting(
        10_000, "Bells that may wait for one process; those above are dropped, and found in the log.", "bells"
    )
    redis_expiry: int = setting(
        20, "Time after which a bell that a process has not taken is dropped, and found in the log.", "seconds"
    )
    redis_group_expiry: int = setting(
        300, "Time after which Redis forgets a process that does not renew its memberships.", "seconds"
    )
    insecure_http: bool = setting(
        False, "Serve plain HTTP in production: cookies without Secure, no redirect, no HSTS."
    )
    behind_proxy: bool = setting(
        False, "Believe X-Forwarded-Proto: a proxy in front ends TLS and sets it. See ARQONBUS_TRUSTED_PROXIES too."
    )
    ssl_redirect: bool = setting(True, "Send http requests to https (with DEBUG=0).")
    hsts_seconds: int = setting(
        31_536_000, "How long browsers shall come by https only (with DEBUG=0); 0: no HSTS.", "s"
    )
    hsts_subdomains: bool = setting(True, "HSTS for all names below the site's, and for browsers' preload lists.")
    csrf_trusted_origins: tuple[str, ...] = setting(
        [], "Origins besides the site's own whose forms are taken, as https://host."
    )


def read(variables: Mapping[str, str] | None = None) -> Site:
    """The site's settings. Raises ``ImproperlyConfigured`` with the name of a variable that is wrong."""
    return Site(**environment.read(os.environ if variables is None else variables, Site))
