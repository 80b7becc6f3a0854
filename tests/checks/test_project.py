"""What cannot work is refused by name, with what to do, before anything is served (docs/django.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from channels.sessions import CookieMiddleware
from django.apps import apps
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.utils import ConnectionHandler, ConnectionRouter
from django.template import EngineHandler, engines
from django.urls import path, re_path
from pytest_django import Settings

from bus.checks import bus as checks
from bus.checks import project as host_checks
from bus.conf import routes
from bus.log.sql import for_vendor
from bus.routers import BusRouter
from tests.harness.backends import clean_environment
from tests.harness.waiting import free_port
from tests.hosts.site.routers import OwnDatabase, Replica

pytestmark = pytest.mark.embedded


def ids(found: list[CheckMessage]) -> list[str | None]:
    for message in found:
        assert message.hint, message
    return [message.id for message in found]


def test_a_function_that_cannot_identify_anybody_is_named(settings: Settings) -> None:
    for dotted, said in (
        ("shop.nowhere.identify", "cannot be imported"),
        ("bus.version.VERSION", "no plain function"),
        ("bus.sockets.handshake.identify", "no plain function"),
    ):
        settings.ARQONBUS = {"identify": dotted}
        (found,) = host_checks.check_identify()
        assert (found.id, said in found.msg) == ("bus.E016", True), found
    settings.ARQONBUS = {"identify": "bus.auth.identity.from_jwt"}
    assert host_checks.check_identify() == []


def test_times_without_a_zone(settings: Settings) -> None:
    assert ids(host_checks.check_times()) == []
    settings.USE_TZ = False
    assert ids(host_checks.check_times()) == ["bus.E008"]
    with pytest.raises(ImproperlyConfigured, match="USE_TZ is False"):
        checks.refuse_to_serve()
    assert "bus.E008" in ids(checks.before_serving())


@pytest.mark.parametrize("vendor", ["mysql", "oracle", "microsoft", "cockroachdb"])
def test_databases_whose_sql_the_bus_does_not_have(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A backend of Django's making, which says of itself what the real one does; their drivers are not installed here.
    backend, base = ModuleType(f"backend_of_{vendor}"), ModuleType(f"backend_of_{vendor}.base")
    base.DatabaseWrapper = type("DatabaseWrapper", (DatabaseWrapper,), {"vendor": vendor})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    monkeypatch.setitem(sys.modules, base.__name__, base)
    monkeypatch.setattr(
        host_checks, "connections", ConnectionHandler({"default": {"ENGINE": backend.__name__, "NAME": ":memory:"}})
    )
    assert ids(host_checks.check_database()) == ["bus.E009"]
    with pytest.raises(NotSupportedError):
        for_vendor(vendor)


@pytest.mark.parametrize(("version", "named"), [((3, 37, 2), ["bus.E009"]), ((3, 38, 0), [])])
def test_an_old_sqlite_lacks_the_operators_of_the_log(
    version: tuple[int, int, int], named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    monkeypatch.setattr(host_checks, "connections", ConnectionHandler({"default": memory}))
    monkeypatch.setattr("sqlite3.sqlite_version_info", version)
    assert ids(host_checks.check_database()) == named


def test_no_database_and_one_without_autocommit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "connections", ConnectionHandler({"default": {}}))
    assert ids(host_checks.check_database()) == ["bus.E009"]
    manual = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "AUTOCOMMIT": False}
    monkeypatch.setattr(host_checks, "connections", ConnectionHandler({"default": manual}))
    assert ids(host_checks.check_database()) == ["bus.E010"]


class SometimesCopy:
    """Now here, now there."""

    def __init__(self) -> None:
        self._asked = 0

    def db_for_read(self, model: Any, **_: Any) -> str:
        self._asked += 1
        return "default" if self._asked % 7 else "replica"


class NotHere:
    """The table of messages is made elsewhere."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **_: Any) -> bool | None:
        return False if (db, model_name) == ("default", "message") else None


class Harmless:
    """About another app."""

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        return "replica" if model._meta.app_label == "shop" else None

    def db_for_write(self, model: Any, **_: Any) -> str:
        return "default"


@pytest.mark.parametrize(
    ("routers", "named"),
    [
        ([Harmless()], ""),
        ([Replica()], "Replica"),
        ([OwnDatabase()], "OwnDatabase"),
        ([Harmless(), SometimesCopy()], "SometimesCopy"),
        ([NotHere()], "NotHere"),
        ([BusRouter(), OwnDatabase()], ""),
        ([BusRouter(), Replica()], ""),
        ([OwnDatabase(), BusRouter()], "OwnDatabase"),
    ],
)
def test_routers_that_send_the_bus_away_are_named(
    routers: list[Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_checks, "router", ConnectionRouter(routers))
    found = host_checks.check_routers()
    assert ids(found) == (["bus.E011"] if named else [])
    assert all(f".{named} " in message.msg for message in found)


def test_middleware_sessions_and_templates(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids([*host_checks.check_middleware(), *host_checks.check_sessions(), *host_checks.check_templates()]) == []
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.sessions"]
    assert ids(host_checks.check_sessions()) == ["bus.E013"]
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert ids(host_checks.check_sessions()) == []
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    assert ids(host_checks.check_middleware()) == ["bus.W013", "bus.W013"]
    without = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": False}]
    monkeypatch.setattr("django.template.loader.engines", EngineHandler(without))
    assert ids(host_checks.check_templates()) == ["bus.E014"]
    monkeypatch.undo()
    assert engines.all()


async def here(scope: Any, receive: Any, send: Any) -> None:
    """A consumer."""


def router(*prefixes: str) -> URLRouter:
    routes_made: list[Any] = [path(prefix, here) for prefix in prefixes]  # type: ignore[arg-type]
    return URLRouter(routes_made)


@pytest.mark.parametrize(
    ("sockets", "missing"),
    [
        (router("", "telemetry/"), 0),
        (router(""), 1),
        (router("live/", "live/telemetry/"), 2),
        (URLRouter([re_path(r"^(telemetry/)?$", here)]), 0),  # type: ignore[arg-type, list-item]
        (ProtocolTypeRouter({"websocket": OriginValidator(CookieMiddleware(router("elsewhere/")), ["*"])}), 2),
        (URLRouter([path("tele", router("metry/")), path("", here)]), 0),  # type: ignore[arg-type, list-item]
        (here, 0),  # nobody can look into a function
    ],
)
def test_a_page_without_its_socket(sockets: Any, missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps.get_app_config("bus"), "sockets", sockets)
    assert ids(host_checks.check_sockets()) == ["bus.W012"] * missing


@pytest.mark.parametrize(
    ("scope", "script_name", "path"),
    [
        ({"path": "/bus/"}, None, "/bus/"),
        ({"path": "/app/bus/", "root_path": "/app"}, None, "/bus/"),
        ({"path": "/app/bus/", "root_path": "/app/"}, None, "/bus/"),
        ({"path": "/bus/", "root_path": "/app"}, None, "/bus/"),
        ({"path": "/app", "root_path": "/app"}, None, "/"),
        ({"path": "/application/", "root_path": "/app"}, None, "/application/"),
        ({"path": "/app/bus/"}, "/app", "/bus/"),
    ],
)
def test_the_path_below_the_whole_project(
    scope: dict[str, str], script_name: str | None, path: str, settings: Settings
) -> None:
    settings.FORCE_SCRIPT_NAME = script_name
    assert routes.local_path(scope) == path


def test_what_a_page_may_mean_by_a_path(settings: Settings) -> None:
    assert list(routes.candidates("/bus/")) == ["/bus/"]
    assert list(routes.candidates("/bus")) == ["/bus", "/bus/"]
    assert list(routes.candidates("/de/bus")) == ["/de/bus", "/de/bus/", "/bus/"]
    assert list(routes.candidates("/de/")) == ["/de/", "/"]
    settings.USE_I18N = False
    assert list(routes.candidates("/de/bus/")) == ["/de/bus/"]


# --- over real processes ------------------------------------------------------------------------------------------------


def started(
    folder: Path, *command: str, settings: dict[str, Any], first_on_path: Path | None = None
) -> tuple[int, str]:
    """A command of a project with these settings: its status, and all that it said."""
    env = clean_environment(
        {
            "DJANGO_SETTINGS_MODULE": "tests.hosts.site.settings",
            "HOST_STATE": str(folder),
            "HOST_SETTINGS": json.dumps(settings),
        }
    )
    done = subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "settings", "named"),
    [
        ("-m daphne -p {port} tests.hosts.site.asgi:application", {"USE_TZ": False}, "USE_TZ"),
        ("-m uvicorn --port {port} tests.hosts.site.asgi:application", {"DATABASES": {}}, "DATABASES['default']"),
        ("-m django runbus --port {port}", {"DATABASE_ROUTERS": ["tests.hosts.site.routers.Replica"]}, "Replica"),
        ("-m django check", {"INSTALLED_APPS": ["bus"]}, "django.contrib.auth"),
    ],
    ids=["daphne", "uvicorn", "runbus", "check"],
)
def test_a_server_does_not_begin(command: str, settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    status, said = started(tmp_path, *command.format(port=free_port()).split(), settings=settings)
    assert status != 0
    assert named in said.strip().splitlines()[-1]


def test_an_app_of_the_project_that_is_called_telemetry(tmp_path: Path) -> None:
    shadow = tmp_path / "telemetry"
    shadow.mkdir()
    (shadow / "__init__.py").write_text("")
    status, said = started(tmp_path, "-m", "django", "check", settings={})
    assert status != 0
    assert "bus.E012" in said
    assert f"`telemetry` is {shadow}" in said
