"""The ready project with that app."""

from __future__ import annotations

from arqonbus_site.settings import *  # noqa: F403
from arqonbus_site.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "bench.gated"]
