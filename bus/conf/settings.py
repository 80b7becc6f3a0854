"""The settings in force, checked.

The ready project reads ``ARQONBUS_<NAME>`` from the environment into ``settings.ARQONBUS``. Another project fills that dict
itself, or sets ``ARQONBUS_<NAME>`` in its settings file. :func:`config` returns the checked values.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ..protocol.names import DEFAULT_ADDRESS, Address, parse_address
from . import parsing
from .rules import RULES
from .table import Config

_FIELDS = parsing.fields_of(Config)

#: The dict with all settings, and what the name of a single one begins with.
PREFIX = "ARQONBUS"


def from_environment(environment: Mapping[str, str], prefix: str = "ARQONBUS_") -> dict[str, Any]:
    """The settings that ``environment`` names, as the dict for ``settings.ARQONBUS``.

    Raises ``ImproperlyConfigured`` with the variable's name for an invalid value.
    """
    return parsing.read(environment, Config, prefix)


def variable(setting: str) -> str:
    """The name of a setting in the environment."""
    return f"ARQONBUS_{setting.upper()}"


def entry(setting: str) -> str:
    """The name of a setting in the settings file of a project."""
    return f'ARQONBUS["{setting}"]'


def build(values: Mapping[str, Any], named: Callable[[str], str] = variable) -> Config:
    """A checked :class:`Config` of ``values``. ``named`` turns a setting into the name that its author uses.

    Raises ``ImproperlyConfigured`` with the name of the first invalid setting.
    """
    given: dict[str, Any] = {}
    for key, value in values.items():
        field = _FIELDS.get(key)
        if field is None:
            raise ImproperlyConfigured(f"{named(str(key))} is not a setting of ArqonBus.{_near(str(key), named)}")
        given[key] = parsing.checked(named(key), value, field)
    result = Config(**given)
    for setting, rule in RULES.items():
        if fault := rule(getattr(result, setting), result):
            raise ImproperlyConfigured(f"{named(setting)} {fault}.")
    return result


def _near(setting: str, named: Callable[[str], str]) -> str:
    """A hint at a setting with a similar name."""
    near = difflib.get_close_matches(setting.lower(), _FIELDS, n=1)
    return f" Did you mean {named(near[0])}?" if near else ""


@lru_cache(maxsize=1)
def config() -> Config:
    """The settings in force, read once."""
    # The ready-made project has checked the environment before. A fault here comes from a settings file.
    return build(getattr(settings, PREFIX, {}) | _alone(), entry)


def _alone() -> dict[str, Any]:
    """The settings that the settings file has by themselves, as ``ARQONBUS_<NAME>``."""
    together = getattr(settings, PREFIX, {})
    found: dict[str, Any] = {}
    for name in dir(settings):
        if name.startswith(f"{PREFIX}_"):
            setting = name.removeprefix(f"{PREFIX}_").lower()
            if setting in together:
                raise ImproperlyConfigured(f"The settings have both {name} and {entry(setting)}. Remove one of them.")
            found[setting] = getattr(settings, name)
    return found


def anonymous_allowed() -> bool:
    """Whether anonymous clients are accepted: by the setting, otherwise only with DEBUG (docs/security.md, Identity)."""
    allowed = config().anonymous
    return bool(settings.DEBUG) if allowed is None else allowed


def telemetry_anonymous_allowed() -> bool:
    """Whether anonymous clients may use the telemetry socket: by its setting, otherwise as on the bus."""
    allowed = config().telemetry_anonymous
    return anonymous_allowed() if allowed is None else allowed


#: How to connect several processes, in the ready-made project and in others.
LAYER_HINT = (
    "Give all processes the same Redis: REDIS_URL in the ready-made project, CHANNEL_LAYERS in a project of your own."
)


def documentation() -> Path | None:
    """The folder with the pages of the documentation: in the package, or beside the app in a checkout; None for neither."""
    app = Path(__file__).resolve().parent.parent
    return next((folder for folder in (app / "docs", app.parent / "docs") if (folder / "index.md").is_file()), None)


def ready_made() -> bool:
    """Whether this is the ready-made project of this repository."""
    return str(settings.ROOT_URLCONF).startswith("arqonbus_site")


def in_memory_layer() -> bool:
    """Whether the channel layer cannot carry notifications between processes."""
    backend = (getattr(settings, "CHANNEL_LAYERS", {}) or {}).get("default", {}).get("BACKEND", "")
    return not backend or backend.endswith("InMemoryChannelLayer")


def default_address() -> Address:
    """The channel of clients that name no room."""
    return _address(config().default_channel)


@lru_cache(maxsize=1)
def _address(text: str) -> Address:
    return parse_address(text) or DEFAULT_ADDRESS


def _forget(*, setting: str, **_: Any) -> None:
    if setting.startswith(PREFIX):
        config.cache_clear()


setting_changed.connect(_forget, dispatch_uid="arqonbus.conf")


def development_notice() -> str:
    """The notice of a server in development mode, in one line."""
    come_in = "anonymous clients are accepted" if anonymous_allowed() else "clients must authenticate"
    # Another project has its own key.
    generated = getattr(settings, "DEVELOPMENT_KEY", False)
    key = "the secret key is generated and stored beside the database, " if generated else ""
    return f"Development mode: DEBUG is on, {key}{come_in}. For production set DEBUG=0, SECRET_KEY and ALLOWED_HOSTS."
