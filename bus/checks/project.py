"""Checks of the project around the bus. They report settings that cannot work with it before a server starts.

docs/django.md explains the supported settings.
"""

from __future__ import annotations

import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from ..auth import own
from ..auth.identity import sessions_kept
from ..conf import routes
from ..conf.settings import config

#: The databases that the bus supports, by Django's name.
DATABASES = ("sqlite", "postgresql")
#: The oldest SQLite with the operators of ``bus.log.sql``: ``->>`` came with 3.38 (sqlite.org/json1.html).
OLDEST_SQLITE = (3, 38, 0)
_SAID = {"mysql": "MySQL or MariaDB", "oracle": "Oracle", "microsoft": "SQL Server", "unknown": "no database"}

#: The number of times that the check asks a router. A router may choose a replica at random.
_ASKED = 20

_SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
_LOGINS = "django.contrib.auth.middleware.AuthenticationMiddleware"


def check_times(**_: Any) -> list[CheckMessage]:
    """E008: the project's times have no time zone."""
    if settings.USE_TZ:
        return []
    return [
        Error(
            "USE_TZ is False. The bus stores times, which are ambiguous without a time zone.",
            hint="Set USE_TZ = True. Django's documentation of time zones has a migration guide.",
            id="bus.E008",
        )
    ]


def check_database(**_: Any) -> list[CheckMessage]:
    """E009: the bus does not support the database. E010: the database has no autocommit."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    found: list[CheckMessage] = []
    if wrapper.vendor not in DATABASES:
        found.append(
            Error(
                f"DATABASES['default'] is {_SAID.get(wrapper.vendor, wrapper.vendor)}. "
                "The bus needs PostgreSQL or SQLite for its log.",
                hint="Make one of them the default database, or run the bus as a separate project.",
                id="bus.E009",
            )
        )
    elif wrapper.vendor == "sqlite" and sqlite3.sqlite_version_info < OLDEST_SQLITE:
        found.append(
            Error(
                f"SQLite is {sqlite3.sqlite_version}. The bus needs 3.38 or newer for its log.",
                hint="Use a Python with a newer SQLite, or PostgreSQL.",
                id="bus.E009",
            )
        )
    if not wrapper.settings_dict.get("AUTOCOMMIT", True):
        found.append(
            Error(
                "AUTOCOMMIT of DATABASES['default'] is False. The writes of the bus would never be committed.",
                hint="Remove AUTOCOMMIT from the settings of the database. Django starts transactions where it needs them.",
                id="bus.E010",
            )
        )
    return found


def check_history_database(**_: Any) -> list[CheckMessage]:
    """E017: the replica for history is missing, or of another kind than the default database."""
    alias = config().history_database
    if not alias or (alias in connections and connections[alias].vendor == connections[DEFAULT_DB_ALIAS].vendor):
        return []
    fault = "is no database of the kind of the default one" if alias in connections else "is not in DATABASES"
    return [
        Error(
            f"ARQONBUS_HISTORY_DATABASE is {alias!r}, which {fault}.",
            hint="Name the alias of a read replica of the default database, or leave the setting empty.",
            id="bus.E017",
        )
    ]


def check_routers(**_: Any) -> list[CheckMessage]:
    """E011: a database router sends the bus's reads, writes or tables to another database."""
    for model in apps.get_app_config("bus").get_models():
        for question in ("db_for_read", "db_for_write", "allow_migrate_model"):
            culprit = _sends_away(question, model)
            if culprit is not None:
                return [
                    Error(
                        f"The database router {type(culprit).__module__}.{type(culprit).__qualname__} sends the bus "
                        "to another database than the default one. The bus must read its own writes there.",
                        hint='Put "bus.routers.BusRouter" first in DATABASE_ROUTERS. It keeps the bus in the default database.',
                        id="bus.E011",
                    )
                ]
    return []


def _sends_away(question: str, model: Any) -> Any:
    """The router whose answer sends a model to another database. None if no router does. ``question`` is a router's method."""
    if question == "allow_migrate_model":
        if router.allow_migrate_model(DEFAULT_DB_ALIAS, model):
            return None
        names = {"model_name": model._meta.model_name, "model": model}
        return next(
            each
            for each in router.routers
            if hasattr(each, "allow_migrate") and each.allow_migrate(DEFAULT_DB_ALIAS, "bus", **names) is False
        )
    for _ in range(_ASKED):
        # As in Django, the first router with an answer decides.
        answers = ((each, getattr(each, question)(model)) for each in router.routers if hasattr(each, question))
        each, alias = next(((each, alias) for each, alias in answers if alias), (None, DEFAULT_DB_ALIAS))
        if alias != DEFAULT_DB_ALIAS:
            return each
    return None


def check_shadows(**_: Any) -> list[CheckMessage]:
    """E012: an app of the project has the name of an app of the bus."""
    ours = Path(__file__).resolve().parents[2] / "telemetry"
    found = find_spec("telemetry")
    origin = Path(found.origin).resolve().parent if found is not None and found.origin else None
    if origin is None or origin == ours:
        return []
    return [
        Error(
            f"`telemetry` is {origin}, which hides the app of the bus with the same name.",
            hint="Rename the package of your app, or move it into a package of the project. Its label may stay.",
            id="bus.E012",
        )
    ]


def check_middleware(**_: Any) -> list[CheckMessage]:
    """W013: without the middleware of sessions and log-ins, nobody can log in to the bus's pages."""
    return [
        Caution(
            f"MIDDLEWARE has no {name.rpartition('.')[2]}. Nobody can log in to the console, and only tokens work elsewhere.",
            hint=f'Add "{name}" to MIDDLEWARE, and "{app}" to INSTALLED_APPS.',
            id="bus.W013",
        )
        for name, app in ((_SESSIONS, "django.contrib.sessions"), (_LOGINS, "django.contrib.auth"))
        if not _has_middleware(name)
    ]


def _has_middleware(name: str) -> bool:
    wanted = import_string(name)
    for path in settings.MIDDLEWARE:
        found = import_string(path)
        if isinstance(found, type) and issubclass(found, wanted):
            return True
    return False


def check_sessions(**_: Any) -> list[CheckMessage]:
    """E013: sessions are stored in a table, but their app is not installed."""
    if _has_middleware(_SESSIONS) and not sessions_kept():
        return [
            Error(
                "SESSION_ENGINE stores sessions in a table, but django.contrib.sessions is not in INSTALLED_APPS.",
                hint='Add "django.contrib.sessions" to INSTALLED_APPS, or choose another SESSION_ENGINE.',
                id="bus.E013",
            )
        ]
    return []


def check_identify(**_: Any) -> list[CheckMessage]:
    """E016: ARQONBUS_IDENTIFY names no function."""
    path = config().identify
    fault = own.problem_of(path) if path else None
    if fault is None:
        return []
    return [Error(fault, hint='Name a function, such as ARQONBUS_IDENTIFY = "shop.tokens.identify".', id="bus.E016")]


def check_templates(**_: Any) -> list[CheckMessage]:
    """E014: Django does not find the templates of the bus."""
    try:
        get_template("bus/console.html")
    except TemplateDoesNotExist:
        return [
            Error(
                "TEMPLATES does not find the templates of apps. The pages of the bus would answer 500.",
                hint='Add an entry with the BACKEND "django.template.backends.django.DjangoTemplates" and "APP_DIRS": True.',
                id="bus.E014",
            )
        ]
    return []


def check_sockets(**_: Any) -> list[CheckMessage]:
    """W012: a page of the bus uses a socket path that ``asgi.py`` does not serve. This runs after the application is made."""
    sockets = apps.get_app_config("bus").sockets  # type: ignore[attr-defined]
    try:
        console = routes.local_path({"path": reverse("bus:console")})
    except NoReverseMatch:
        return []
    wanted = {console: "BusConsumer"}
    if apps.is_installed("telemetry"):
        wanted[f"{console}telemetry/"] = "TelemetryConsumer"
    return [
        Caution(
            f"The console connects to a socket at {path}, but asgi.py has no route for it.",
            hint=f'Add path("{path.lstrip("/")}", {consumer}.as_asgi()) to the routes of asgi.py. '
            "Pages (urls.py) and sockets must have the same prefix.",
            id="bus.W012",
        )
        for path, consumer in wanted.items()
        if sockets is not None and all(routes.has_route(sockets, meant) is False for meant in routes.candidates(path))
    ]
