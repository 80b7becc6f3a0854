"""System checks of the bus's own settings (``manage.py check``, and before every start)."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import ERROR, CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseError
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import autodiscover_modules, import_string

from .. import gates, handlers
from .._speed import SWITCH
from ..conf.settings import LAYER_HINT, anonymous_allowed, config, in_memory_layer
from ..conf.table import Config
from . import project as host_checks

#: Prefixes of variables of the bus's tests and tools. They look like settings.
_NOT_SETTINGS = ("ARQONBUS_TEST_",)
#: Variables of the clients, which may run in the same shell, and the one that counts before there are settings.
_OF_OTHERS = frozenset({"ARQONBUS_URL", "ARQONBUS_TOKEN", "ARQONBUS_CLIENT_ID", "ARQONBUS_ROOM", SWITCH})


#: The checks of the project's own settings.
_OF_THE_PROJECT = (
    host_checks.check_times,
    host_checks.check_database,
    host_checks.check_history_database,
    host_checks.check_routers,
    host_checks.check_shadows,
    host_checks.check_middleware,
    host_checks.check_sessions,
    host_checks.check_templates,
    host_checks.check_identify,
)


def register_checks() -> None:
    """Connect the checks. The app calls this when it is ready."""
    register(check_settings, Tags.compatibility)
    _register(check_unknown_variables, Tags.compatibility)
    _register(check_development, Tags.security)
    _register(check_layer, Tags.compatibility)
    _register(check_sqlite, Tags.compatibility)
    _register(check_servers, Tags.compatibility)
    _register(check_apps, Tags.compatibility)
    _register(check_gates, Tags.compatibility)
    _register(check_handlers, Tags.compatibility)
    for check in _OF_THE_PROJECT:
        _register(check, Tags.compatibility)
    _register(check_application, Tags.urls)
    _register(check_urls, Tags.urls)
    _register(host_checks.check_sockets, Tags.urls)
    _register(check_proxy, Tags.security)
    _register(check_nodes, Tags.database)
    _register(check_secret_key, Tags.security, deploy=True)
    _register(check_open_doors, Tags.security, deploy=True)


def _register(check: Callable[..., list[CheckMessage]], tag: str, *, deploy: bool = False) -> None:
    """Connect a check that reports nothing while the bus's settings are invalid, since E001 reports them."""

    @wraps(check)
    def of_good_settings(**options: Any) -> list[CheckMessage]:
        try:
            return check(**options)
        except ImproperlyConfigured:
            return []

    register(of_good_settings, tag, deploy=deploy)


def before_serving() -> list[CheckMessage]:
    """Run the checks that need no database, and return their messages. ``runbus`` calls this before it serves."""
    at_start = (
        check_unknown_variables,
        check_layer,
        check_sqlite,
        check_apps,
        check_gates,
        *_OF_THE_PROJECT,
        check_application,
        check_urls,
        host_checks.check_sockets,
    )
    wrong = check_settings()
    return wrong or [message for check in at_start for message in check()]


def refuse_to_serve() -> None:
    """Raise ``ImproperlyConfigured`` with a line for each error. Servers that run no checks need this (daphne, uvicorn)."""
    if apps.get_app_config("bus").checking:  # type: ignore[attr-defined]
        return  # A running check imports the application. The other checks report their errors themselves.
    found = check_settings()
    if not found:
        found = [message for check in (check_layer, check_sqlite, check_gates, *_OF_THE_PROJECT) for message in check()]
    if wrong := [f"{message.msg} {message.hint}" for message in found if message.level >= ERROR]:
        raise ImproperlyConfigured("\n".join(wrong))


def check_settings(**_: Any) -> list[CheckMessage]:
    """E001: a value in ``settings.ARQONBUS`` is invalid."""
    try:
        config()
    except ImproperlyConfigured as problem:
        return [Error(str(problem), hint="docs/configuration.md lists every setting.", id="bus.E001")]
    return []


def check_unknown_variables(**_: Any) -> list[CheckMessage]:
    """W001: a variable looks like a setting of the bus, but is none."""
    known = {f"ARQONBUS_{name.upper()}" for name in Config.__struct_fields__}
    found: list[CheckMessage] = []
    for name in sorted(set(os.environ) - _OF_OTHERS):
        if not name.startswith("ARQONBUS_") or name.startswith(_NOT_SETTINGS) or name.removesuffix("_FILE") in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else "docs/configuration.md lists every setting."
        found.append(Caution(f"{name} is not a setting of ArqonBus and has no effect.", hint=hint, id="bus.W001"))
    return found


def check_development(**_: Any) -> list[CheckMessage]:
    """W002: a development server that other machines can reach accepts anonymous clients."""
    hosts = [host for host in settings.ALLOWED_HOSTS if host not in ("localhost", "127.0.0.1", "[::1]", "testserver")]
    if settings.DEBUG and anonymous_allowed() and hosts:
        return [
            Caution(
                f"DEBUG is on and anonymous clients are accepted, but other machines can reach the site as {', '.join(hosts)}.",
                hint="Set DEBUG=0, or ARQONBUS_ANONYMOUS=0. With DEBUG, everybody may read the rooms about the bus itself.",
                id="bus.W002",
            )
        ]
    return []


def check_layer(**_: Any) -> list[CheckMessage]:
    """E007: no channel layer; E002: several workers with an in-memory layer."""
    if not (getattr(settings, "CHANNEL_LAYERS", None) or {}).get("default"):
        return [
            Error(
                "CHANNEL_LAYERS has no default layer. The bus needs it for notifications.",
                hint="For one process: CHANNEL_LAYERS = "
                '{"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}}.',
                id="bus.E007",
            )
        ]
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if in_memory_layer() and workers.isdigit() and int(workers) > 1:
        return [
            Error(
                f"WEB_CONCURRENCY starts {workers} workers, but the in-memory channel layer works in one process only.",
                hint=f"{LAYER_HINT} Or run one worker.",
                id="bus.E002",
            )
        ]
    return []


def check_sqlite(**_: Any) -> list[CheckMessage]:
    """E003, E004: SQLite without the options for several writers."""
    database = connections[DEFAULT_DB_ALIAS]
    if database.vendor != "sqlite":
        return []
    options = database.settings_dict.get("OPTIONS", {})
    found: list[CheckMessage] = []
    if str(options.get("transaction_mode", "")).upper() != "IMMEDIATE":
        found.append(
            Error(
                "SQLite's transactions are not IMMEDIATE. Publishers would get `database is locked`.",
                hint='Add "transaction_mode": "IMMEDIATE" to the OPTIONS of the database.',
                id="bus.E003",
            )
        )
    if "journal_mode=wal" not in str(options.get("init_command", "")).lower().replace(" ", ""):
        found.append(
            Error(
                "SQLite is not in WAL mode. Publishers would have to wait for readers.",
                hint='Add "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" to the OPTIONS of the database.',
                id="bus.E004",
            )
        )
    return found


def check_servers(**_: Any) -> list[CheckMessage]:
    """W003: ``runserver`` is Django's own command, which does not serve sockets."""
    apps: Sequence[str] = settings.INSTALLED_APPS
    static = "django.contrib.staticfiles"
    if "daphne" not in apps or (static in apps and list(apps).index("daphne") > list(apps).index(static)):
        return [
            Caution(
                "daphne is not in INSTALLED_APPS before django.contrib.staticfiles, so `runserver` does not serve sockets.",
                hint='Put "daphne" first in INSTALLED_APPS. `runbus`, daphne and uvicorn serve sockets in any case.',
                id="bus.W003",
            )
        ]
    return []


def check_apps(**_: Any) -> list[CheckMessage]:
    """W011: an app of the bus is not installed."""
    what = {
        "telemetry": "telemetry, and the activity of clients",
        "django.contrib.staticfiles": "the files of the console",
        "drf_spectacular_sidecar": "the files of the page /api/docs/",
    }
    return [
        Caution(
            f"{app} is not in INSTALLED_APPS. These parts are missing: {missing}.",
            hint=f'Add "{app}" to INSTALLED_APPS.',
            id="bus.W011",
        )
        for app, missing in what.items()
        if not apps.is_installed(app)
    ]


def check_gates(**_: Any) -> list[CheckMessage]:
    """E015: a gate can never run, or would fail on each message."""
    return [
        Error(
            f"The gate {gate.name} cannot run. {fault}",
            hint='A gate is `@before("room:channel")` on a function (message, actor) in the module `gates` of an app.',
            id="bus.E015",
        )
        for gate in gates.registered()
        if (fault := gate.fault()) is not None
    ]


def check_handlers(**_: Any) -> list[CheckMessage]:
    """E020, W020: a handler cannot run, or is where ``runhandlers`` does not find it."""
    autodiscover_modules("handlers")
    return [
        *(Error(text, hint=hint, id="bus.E020") for text, hint in handlers.problems(handlers.REGISTERED)),
        *(Caution(text, hint=hint, id="bus.W020") for text, hint in handlers.misplaced(handlers.REGISTERED)),
    ]


def check_application(**_: Any) -> list[CheckMessage]:
    """W009: the project's ASGI application does not serve the sockets of the bus."""
    hint = "docs/django.md shows the whole asgi.py. It ends with `application = bus_application(django_application, sockets)`."
    name = getattr(settings, "ASGI_APPLICATION", None)
    if not name:
        return [
            Caution(
                "ASGI_APPLICATION is not set, so `runserver` and `runbus` cannot serve.",
                hint=f'Set ASGI_APPLICATION = "yourproject.asgi.application". {hint}',
                id="bus.W009",
            )
        ]
    bus: Any = apps.get_app_config("bus")
    bus.checking = True
    try:
        import_string(name)
    except ImportError as problem:
        return [Caution(f"ASGI_APPLICATION {name!r} cannot be imported: {problem}", hint=hint, id="bus.W009")]
    finally:
        bus.checking = False
    if bus.sockets is None:
        return [
            Caution(
                f"{name} does not come from bus.asgi.bus_application, so it does not serve the bus correctly.",
                hint=hint,
                id="bus.W009",
            )
        ]
    return []


def check_urls(**_: Any) -> list[CheckMessage]:
    """W010: the pages of the bus have no URL."""
    try:
        reverse("bus:console")
    except NoReverseMatch:
        return [
            Caution(
                "The project's URLs do not include bus.urls. The console, REST, /health and /metrics are missing.",
                hint='Add path("bus/", include("bus.urls")) to urlpatterns, with the same prefix as in asgi.py.',
                id="bus.W010",
            )
        ]
    return []


def check_proxy(**_: Any) -> list[CheckMessage]:
    """W004: all clients seem to have the address of the proxy."""
    if getattr(settings, "SECURE_PROXY_SSL_HEADER", None) and not config().trusted_proxies:
        return [
            Caution(
                "The scheme of a proxy is trusted, but not its client addresses. All clients seem to come from the proxy.",
                hint="Set ARQONBUS_TRUSTED_PROXIES to the number of proxies that add X-Forwarded-For, such as 1.",
                id="bus.W004",
            )
        ]
    return []


def check_nodes(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E005, W005: running processes cannot notify each other, or share a SQLite file between machines."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    from ..services.nodes import alive_hosts

    try:
        hosts = alive_hosts()
    except DatabaseError:
        return []  # `runbus` reports the fault of the database.
    found: list[CheckMessage] = []
    if len(hosts) > 1 and in_memory_layer():
        found.append(
            Error(
                f"{len(hosts)} processes share this database, but each has its own in-memory channel layer.",
                hint=f"{LAYER_HINT} Without it, messages of other processes arrive a second late.",
                id="bus.E005",
            )
        )
    if len(set(hosts)) > 1 and connections[DEFAULT_DB_ALIAS].vendor == "sqlite":
        found.append(
            Caution(
                f"Processes on {len(set(hosts))} machines share a SQLite file. Its locks do not work on network file systems.",
                hint="Set DATABASE_URL to a PostgreSQL database.",
                id="bus.W005",
            )
        )
    return found


def check_secret_key(**_: Any) -> list[CheckMessage]:
    """E006: development mode. Django itself refuses to start without a SECRET_KEY."""
    if not settings.DEBUG:
        return []
    return [
        Error(
            "DEBUG is on: it shows errors to everybody, and may sign with the key of development mode.",
            hint="Set DEBUG=0 and a SECRET_KEY. The key signs sessions and tickets, and must be the same in all processes.",
            id="bus.E006",
        )
    ]


def check_open_doors(**_: Any) -> list[CheckMessage]:
    """W006-W008: settings that are too open for the internet."""
    values = config()
    found: list[CheckMessage] = []
    if values.token_in_url:
        found.append(
            Caution(
                "Access tokens are accepted in URLs. Proxies and browsers store URLs in their logs.",
                hint="Set ARQONBUS_TOKEN_IN_URL=0. Browsers can use a ticket, a sub-protocol or the first frame.",
                id="bus.W006",
            )
        )
    if not values.rate_limit:
        found.append(
            Caution(
                "The rate limits are switched off. A single client can overload the server.",
                hint="Unset ARQONBUS_RATE_LIMIT, or set it to the allowed frames a second of one connection.",
                id="bus.W007",
            )
        )
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            Caution(
                "ALLOWED_HOSTS accepts any host name, so it does not protect against pages of other sites.",
                hint="List the host names of the site.",
                id="bus.W008",
            )
        )
    return found
