"""The first lines of a server, for whoever started it."""

from __future__ import annotations

import socket

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model
from django.http.request import validate_host
from django.urls import NoReverseMatch, reverse

from ..conf.settings import documentation, in_memory_layer, ready_made
from ..version import VERSION


def reachable(host: str) -> str:
    """``host`` as somebody on this machine would write it into a URL."""
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def lines(host: str, port: int, telemetry_port: int | None, *, workers: int, server: str) -> list[str]:
    """What to print once the ports are open."""
    base = f"{reachable(host)}:{port}"
    # A project of somebody else has the bus below a prefix, or its sockets alone.
    prefix = address("bus:console")
    bus = f"{base}{prefix}"
    processes = f"{workers} {server} processes" if workers > 1 else server
    said = [f"ArqonBus {VERSION} on {processes}, {_store()}. Ctrl+C stops it in order."]
    if prefix:
        said += [f"  Console     http://{bus}", f"  Bus         ws://{bus}"]
    if telemetry_port:
        said.append(f"  Telemetry   ws://{reachable(host)}:{telemetry_port}/")
    elif prefix:
        said.append(f"  Telemetry   ws://{bus}telemetry/")
    if prefix:
        said.append(f"  API docs    http://{bus}api/docs/")
        if documentation():
            said.append(f"  Docs        http://{bus}docs/")
    else:
        said.append(f"  Sockets     ws://{base}/… as in {settings.ASGI_APPLICATION}")
    if admin := address("admin:index"):
        said.append(f"  Admin       http://{base}{admin}")
    if name := _shut_out(host):
        said.append(
            "  Who comes by another name than localhost is refused: set ALLOWED_HOSTS to the names that this machine is called "
            f"by, such as ALLOWED_HOSTS=localhost,{name}."
        )
    if not _has_admin():
        said.append(
            "  There is no admin yet: `make admin` makes one and prints an access token."
            if ready_made()
            else "  There is no admin yet: `manage.py createsuperuser` makes one."
        )
    return said


def _shut_out(host: str) -> str:
    """A name by which other machines may come to ``host``, if none of theirs is allowed; else empty."""
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
    """Whether somebody may administer; true where the project's users do not tell it by fields of Django's."""
    users = get_user_model()
    told = {name: True for name in ("is_superuser", "is_active") if _has_field(users, name)}
    return "is_superuser" not in told or users._default_manager.filter(**told).exists()


def _has_field(model: type[Model], name: str) -> bool:
    return any(field.name == name for field in model._meta.get_fields())


def _store() -> str:
    store = connections[DEFAULT_DB_ALIAS].display_name
    return f"{store}, one process" if in_memory_layer() else f"{store} and Redis"
