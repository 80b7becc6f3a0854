"""The first lines of a server, for whoever started it."""

from __future__ import annotations

from contextlib import suppress

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS
from django.urls import NoReverseMatch, reverse

from ..version import VERSION


def reachable(host: str) -> str:
    """``host`` as somebody on this machine would write it into a URL."""
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def lines(host: str, port: int, telemetry_port: int | None, *, workers: int, server: str) -> list[str]:
    """What to print once the ports are open."""
    base = f"{reachable(host)}:{port}"
    # A project of somebody else has the bus below a prefix.
    bus = f"{base}{reverse('bus:console')}"
    processes = f"{workers} {server} processes" if workers > 1 else server
    said = [f"ArqonBus {VERSION} on {processes}, {_store()}. Ctrl+C stops it in order."]
    said += [
        f"  Console     http://{bus}",
        f"  Bus         ws://{bus}",
        f"  Telemetry   ws://{reachable(host)}:{telemetry_port}/"
        if telemetry_port
        else f"  Telemetry   ws://{bus}telemetry/",
        f"  API docs    http://{bus}api/docs/",
    ]
    with suppress(NoReverseMatch):
        said.append(f"  Admin       http://{base}{reverse('admin:index')}")
    if not get_user_model()._default_manager.filter(is_superuser=True, is_active=True).exists():
        said.append("  There is no admin yet: `make admin` makes one and prints an access token.")
    return said


def _store() -> str:
    engine = settings.DATABASES[DEFAULT_DB_ALIAS]["ENGINE"].rpartition(".")[2]
    store = {"sqlite3": "SQLite", "postgresql": "PostgreSQL"}.get(engine, engine)
    return f"{store} and Redis" if getattr(settings, "REDIS_URL", "") else f"{store}, one process"
