"""The lines that a server prints when it starts."""

from __future__ import annotations

import socket

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model
from django.http.request import validate_host
from django.urls import NoReverseMatch, reverse

from .._speed import path
from ..conf.settings import documentation, in_memory_layer, ready_made
from ..version import VERSION


def reachable(host: str) -> str:
    """``host`` as a person on this machine writes it into a URL."""
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def lines(host: str, port: int, telemetry_port: int | None, *, workers: int, server: str) -> list[str]:
    """The lines to print once the ports are open."""
    base = f"{reachable(host)}:{port}"
    # Another project may have the bus below a prefix, or its sockets alone.
    prefix = address("bus:console")
    bus = f"{base}{prefix}"
    processes = f"{workers} {server} processes" if workers > 1 else server
    printed = [f"ArqonBus {VERSION} on {processes}, {_store()}. Press Ctrl+C to stop it."]
    if prefix:
        printed += [f"  Console     http://{bus}", f"  Bus         ws://{bus}"]
    if telemetry_port:
        printed.append(f"  Telemetry   ws://{reachable(host)}:{telemetry_port}/")
    elif prefix:
        printed.append(f"  Telemetry   ws://{bus}telemetry/")
    if prefix:
        printed.append(f"  API docs    http://{bus}api/docs/")
        if documentation():
            printed.append(f"  Docs        http://{bus}docs/")
    else:
        printed.append(f"  Sockets     ws://{base}/… as in {settings.ASGI_APPLICATION}")
    if admin := address("admin:index"):
        printed.append(f"  Admin       http://{base}{admin}")
    printed.append(f"  Path        {path()}")
    if name := _shut_out(host):
        printed.append(
            "  Requests to other names than localhost are refused. Set ALLOWED_HOSTS to the names of this machine, "
            f"such as ALLOWED_HOSTS=localhost,{name}."
        )
    if not _has_admin():
        printed.append(
            "  There is no admin yet. `make admin` creates one and prints an access token."
            if ready_made()
            else "  There is no admin yet. `manage.py createsuperuser` creates one."
        )
    return printed


def _shut_out(host: str) -> str:
    """A name by which other machines reach ``host``, if ALLOWED_HOSTS has none of those; else empty."""
    local = [".localhost", "localhost", "127.0.0.1", "[::1]", "testserver"]
    if validate_host(f"[{host}]" if ":" in host else host, local) or set(settings.ALLOWED_HOSTS) - set(local):
        return ""
    return socket.gethostname() if reachable(host) == "localhost" else host


def address(name: str) -> str:
    """The path of a view; empty where the project does not include it."""
    try:
        return reverse(name)
    except NoReverseMatch:
        return ""


def _has_admin() -> bool:
    """Whether there is an admin; true where the project's user model lacks Django's fields for that."""
    users = get_user_model()
    fields = {name: True for name in ("is_superuser", "is_active") if _has_field(users, name)}
    return "is_superuser" not in fields or users._default_manager.filter(**fields).exists()


def _has_field(model: type[Model], name: str) -> bool:
    return any(field.name == name for field in model._meta.get_fields())


def _store() -> str:
    store = connections[DEFAULT_DB_ALIAS].display_name
    return f"{store}, one process" if in_memory_layer() else f"{store} and Redis"
