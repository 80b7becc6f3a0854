"""The ready project with the app of tasks, and with Django's tasks or their backport."""

from __future__ import annotations

from arqonbus_site.settings import *  # noqa: F403
from arqonbus_site.settings import INSTALLED_APPS as _APPS
from tests.contrib.queues import TASKS

_BACKPORT = ["django_tasks"] if TASKS == "django_tasks" else []
INSTALLED_APPS = [*_APPS, *_BACKPORT, "bus.contrib.tasks", "tests.contrib.site"]
ROOT_URLCONF = "tests.contrib.site.urls"
BUS_TASKS = {"interval": 0}
