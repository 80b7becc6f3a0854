"""Configuration: one table, documented as it is, and every wrong value refused with the name of its variable."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import ConnectionHandler
from pytest_django.fixtures import Settings

from arqonbus_site import configuration
from arqonbus_site.environment import Site
from arqonbus_site.environment import read as read_site
from bus.checks import bus as checks
from bus.conf import settings as conf
from bus.conf.parsing import Field, fields_of
from bus.conf.table import Config
from tests.harness.backends import clean_environment
from tests.harness.processes import PROJECT_ROOT

FIELDS = fields_of(Config)
SETTINGS = list(FIELDS)
NUMBERS = ("a number", "a whole number")


@pytest.mark.pure
def test_the_page_of_the_configuration_says_what_the_code_does() -> None:
    page = (PROJECT_ROOT / "docs" / "configuration.md").read_text()
    assert page == configuration.page(), "run `python -m arqonbus_site.configuration > docs/configuration.md`"
    for name in SETTINGS:
        assert f"`ARQONBUS_{name.upper()}`" in page


@pytest.mark.pure
def test_every_number_has_a_unit_and_every_setting_a_meaning() -> None:
    for field in FIELDS.values():
        assert field.meaning.endswith("."), field.name
        assert bool(field.unit) == (field.type_name in NUMBERS), field.name


def wrong(field: Field) -> list[str]:
    """Texts that are no value of the setting."""
    name = field.name
    if field.type_name.startswith("1"):
        return ["maybe", "2"]
    if field.type_name == "a whole number":
        never = {"send_buffer": "262143", "frame_bytes": "1048577"}
        return ["many", "1.5", "-1", "", "9" * 20, *([never[name]] if name in never else [])]
    if field.type_name == "a number":
        never = {"heartbeat": "0.001", "ping_interval": "0.001", "rate_burst": "0.5", "ticket_lifetime": "0"}
        return ["soon", "nan", "inf", "-1", "", "1e15", *([never[name]] if name in never else [])]
    return {
        "log_format": ["xml"],
        "log_level": ["LOUD"],
        "writer": ["quill"],
        "loop": ["knot"],
        "identify": ["identify", "shop.tokens.", "shop tokens.identify"],
        "jwt_key": ["short", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"],
        "jwt_jwks": ["/nowhere/keys.json", "http://keys.example/jwks.json", "ftp://keys.example/jwks.json"],
        "jwt_algorithms": ["none", "HS256,none", " "],
        "system_room": ["", "a b", "pm", "*", "science"],
        "default_channel": ["", "lobby", "lobby:*", "pm:ada", "*:*"],
        "history_database": ["postgres://replica:5432/bus", "a b"],
        "allowed_origins": ["app.example.com", "https://app.example.com/", "https://*.example.com"],
    }.get(name, [])


@pytest.mark.pure
@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_value_is_refused_with_the_name_of_its_variable(name: str) -> None:
    variable = f"ARQONBUS_{name.upper()}"
    texts = wrong(FIELDS[name])
    free_texts = ("jwt_audience", "jwt_issuer", "jwt_admin_claim", "jwt_groups_claim", "jwt_scope_claim")
    assert texts or name in free_texts
    for text in texts:
        with pytest.raises(ImproperlyConfigured) as refused:
            conf.build(conf.from_environment({variable: text}))
        assert str(refused.value).startswith(f"{variable} "), text


@pytest.mark.pure
@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_type_in_the_settings_of_a_project_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        conf.build({name: object()})
    assert f"ARQONBUS_{name.upper()}" in str(refused.value)


@pytest.mark.pure
def test_every_default_is_a_good_value_and_zero_is_where_the_page_says_so() -> None:
    conf.build({})
    for field in FIELDS.values():
        if field.unit and "0:" in field.meaning:
            conf.build({field.name: 0})


@pytest.mark.pure
@pytest.mark.parametrize("field", fields_of(Site).values(), ids=lambda field: field.name)
def test_a_wrong_variable_of_the_site_is_refused_by_its_name(field: Field) -> None:
    for text in wrong(field):
        with pytest.raises(ImproperlyConfigured) as refused:
            read_site({field.name.upper(): text})
        assert str(refused.value).startswith(field.name.upper())


@pytest.mark.pure
def test_a_secret_can_be_given_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    assert read_site({"SECRET_KEY_FILE": str(tmp_path / "key")}).secret_key == "from-a-file"
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY_FILE"):
        read_site({"SECRET_KEY_FILE": str(tmp_path / "none")})


def start(**env: str) -> subprocess.CompletedProcess[str]:
    """`manage.py check --deploy` in a process with nothing but these variables."""
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy"],
        cwd=PROJECT_ROOT,
        env=clean_environment(env),
        capture_output=True,
        text=True,
        timeout=60,
    )


GOOD = {
    "DEBUG": "0",
    "SECRET_KEY": "k7" * 40 + "-Zq!x_QT4v",
    "ALLOWED_HOSTS": "bus.example.com",
    "BEHIND_PROXY": "1",
    "ARQONBUS_TRUSTED_PROXIES": "1",
}


@pytest.mark.embedded
def test_production_settings_pass_the_checks_and_missing_ones_are_named() -> None:
    clean = start(**GOOD)
    assert (clean.returncode, clean.stderr) == (0, ""), clean.stderr
    assert "no issues" in clean.stdout
    for missing in ("SECRET_KEY", "ALLOWED_HOSTS"):
        refused = start(**{key: value for key, value in GOOD.items() if key != missing})
        assert refused.returncode
        assert f"{missing} is not set" in refused.stderr
    named = start(**GOOD, ARQONBUS_RATE_LIMIT="fast")
    assert named.returncode
    assert "ARQONBUS_RATE_LIMIT is 'fast'" in named.stderr


def ids(messages: list[Any]) -> list[str]:
    """Their ids, each with a hint that says what to do."""
    assert all(message.hint for message in messages)
    assert all(isinstance(message, CheckMessage) for message in messages)
    return [message.id for message in messages]


@pytest.mark.pure
def test_each_check_finds_its_misconfiguration(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ARQONBUS = {"rate_limit": "fast"}
    assert ids(checks.check_settings()) == ["bus.E001"]
    settings.ARQONBUS = {}
    assert ids(checks.check_settings()) == []
    monkeypatch.setenv("ARQONBUS_RATELIMIT", "5")
    (message,) = [m for m in checks.check_unknown_variables() if "RATELIMIT" in m.msg]
    assert message.hint == "Did you mean ARQONBUS_RATE_LIMIT?"
    # The clients' own variables are no misspelt settings of the server.
    for name in ("ARQONBUS_URL", "ARQONBUS_TOKEN"):
        monkeypatch.setenv(name, "x")
        assert not [m for m in checks.check_unknown_variables() if name in m.msg]

    settings.DEBUG, settings.ALLOWED_HOSTS = True, ["bus.example.com"]
    assert ids(checks.check_development()) == ["bus.W002"]
    settings.ARQONBUS = {"anonymous": False}
    assert ids(checks.check_development()) == []

    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert ids(checks.check_layer()) == ["bus.E002"]
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    assert ids(checks.check_layer()) == []
    settings.CHANNEL_LAYERS = {}
    assert ids(checks.check_layer()) == ["bus.E007"]

    bare = {"default": {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}}
    monkeypatch.setattr(checks, "connections", ConnectionHandler(bare))
    assert ids(checks.check_sqlite()) == ["bus.E003", "bus.E004"]
    for late in (["django.contrib.staticfiles", "daphne"], ["bus"]):
        monkeypatch.setattr(checks, "settings", SimpleNamespace(INSTALLED_APPS=late))
        assert ids(checks.check_servers()) == ["bus.W003"]
    monkeypatch.undo()
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert ids(checks.check_proxy()) == ["bus.W004"]
    settings.ARQONBUS = {"trusted_proxies": 1}
    assert ids(checks.check_proxy()) == []

    settings.DEBUG = True
    assert [found.msg for found in checks.check_secret_key()] == [
        "DEBUG is on: it shows errors to everybody, and may sign with the key of development mode."
    ]
    settings.DEBUG = False
    assert ids(checks.check_secret_key()) == []
    settings.ALLOWED_HOSTS = ["*"]
    settings.ARQONBUS = {"token_in_url": True, "rate_limit": 0.0}
    assert ids(checks.check_open_doors()) == ["bus.W006", "bus.W007", "bus.W008"]


@pytest.mark.django_db
def test_processes_that_cannot_hear_each_other_are_found(settings: Settings) -> None:
    from bus.models import Node

    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    Node.objects.create(id="a", host="one", pid=1, version="1")
    assert ids(checks.check_nodes(databases=["default"])) == []
    Node.objects.create(id="b", host="two", pid=2, version="1")
    found = ids(checks.check_nodes(databases=["default"]))
    assert found[0] == "bus.E005"
    assert ("bus.W005" in found) == settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
    assert checks.check_nodes(databases=None) == []
    assert os.environ.get("DATABASE_URL")


def test_a_settings_file_may_have_a_setting_by_itself(settings: Settings) -> None:
    settings.ARQONBUS = {"presence": False}
    settings.ARQONBUS_RATE_LIMIT = 5
    assert (conf.config().presence, conf.config().rate_limit) == (False, 5)
    settings.ARQONBUS_PRESENCE = True
    with pytest.raises(ImproperlyConfigured, match=r'both ARQONBUS_PRESENCE and ARQONBUS\["presence"\]'):
        conf.config()
    del settings.ARQONBUS_PRESENCE
    settings.ARQONBUS_RATE_LIMITS = 5
    with pytest.raises(ImproperlyConfigured, match="Did you mean"):
        conf.config()


#: The limits that each process counts for itself, and those that are counted in the database.
PER_PROCESS = (
    *("rate_limit", "rate_burst", "principal_rate_limit", "byte_rate_limit", "bad_credentials", "logins"),
    *("connections", "connections_per_address", "ring", "ring_bytes", "ring_total", "queue_limit", "queue_bytes"),
    *("bell_buffer", "gate_threads"),
)
OVER_ALL = ("connections_per_principal", "channels_per_client", "client_ids_per_principal", "streams", "claims", "asks")


@pytest.mark.pure
@pytest.mark.parametrize("name", [*PER_PROCESS, *OVER_ALL])
def test_a_limit_says_whether_it_holds_in_each_process_or_over_all(name: str) -> None:
    meaning = FIELDS[name].meaning
    said = "over all processes" if name in OVER_ALL else r"(one|each|a) process"
    assert re.search(said, meaning), meaning
