"""The ready project with an app whose rows are on live pages. The strict CSP of the ready project holds."""

from __future__ import annotations

from pathlib import Path

from arqonbus_site.settings import *  # noqa: F403
from arqonbus_site.settings import BASE_DIR
from arqonbus_site.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.live.site"]
ROOT_URLCONF = "tests.live.site.urls"
#: The scripts of others that the pages use, from npm.
_FOLDERS = {"htmx2": "htmx.org/dist", "sse2": "htmx-ext-sse", "htmx4": "htmx4/dist"}
STATICFILES_DIRS = [
    (f"npm/{name}", str(folder))
    for name, found in _FOLDERS.items()
    if (folder := Path(BASE_DIR) / "node_modules" / found).is_dir()
]
