"""The settings of the app: ``BUS_TASKS`` of the project."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The values of ``BUS_TASKS``, a dict. Each one has a default."""

    #: A function of a ``Run`` that returns the address of its channel, or None for a task to be silent about.
    channel: Any = None
    #: Whether the room is private when the first task makes it.
    private: bool = True
    #: How many messages of a task are kept, and for how many seconds.
    retention_count: int = 100
    retention_age: int = 86_400
    #: Shortest time in seconds between two messages about the progress of a task.
    interval: float = 0.5


@lru_cache(maxsize=1)
def config() -> Config:
    """Return the settings. Raises ``ImproperlyConfigured`` for wrong ones."""
    try:
        found = msgspec.convert(getattr(settings, "BUS_TASKS", {}), Config)
        channel: Callable[..., Any] | None = (
            import_string(found.channel) if isinstance(found.channel, str) else found.channel
        )
    except (msgspec.ValidationError, ImportError) as problem:
        raise ImproperlyConfigured(f"BUS_TASKS is wrong: {problem}") from None
    if channel is not None and not callable(channel):
        raise ImproperlyConfigured("BUS_TASKS is wrong: `channel` must be a function, or its dotted path.")
    if min(found.retention_count, found.retention_age) < 1 or found.interval < 0:
        raise ImproperlyConfigured("BUS_TASKS is wrong: the retention is at least 1, and the interval at least 0.")
    return msgspec.structs.replace(found, channel=channel)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "BUS_TASKS":
        config.cache_clear()


setting_changed.connect(_forget, dispatch_uid="bus.contrib.tasks")
