"""The first lines of a server, for whoever started it."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS

from ..version import VERSION


def reachable(host: str) -> str:
    """``host`` as somebody on this machine would write it into a URL."""
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def lines(host: str, port: int, telemetry_port: int | None, *, workers: int, server: str) -> list[str]:
    """What to print once the ports are open."""
    base = f"{reachable(host)}:{port}"
    processes = f"{workers} {server} processes" if workers > 1 else server
    said = [f"ArqonBus {VERSION} on {processes}, {_store()}. Ctrl+C stops it in order."]
    said += [
        f"  Console     http://{base}/",
        f"  Bus         ws://{base}/",
        f"  Telemetry   ws://{reachable(host)}:{telemetry_port}/"
        if telemetry_port
        else f"  Telemetry   ws://{base}/telemetry/",
        f"  API docs    http://{base}/api/docs/",
        f"  Admin       http://{base}/admin/",
    ]
    if not get_user_model()._default_manager.filter(is_superuser=True, is_active=True).exists():
        said.append("  There is no admin yet: `make admin` makes one and prints an access token.")
    return said


def _store() -> str:
    engine = settings.DATABASES[DEFAULT_DB_ALIAS]["ENGINE"].rpartition(".")[2]
    store = {"sqlite3": "SQLite", "postgresql": "PostgreSQL"}.get(engine, engine)
    return f"{store} and Redis" if getattr(settings, "REDIS_URL", "") else f"{store}, one process"
