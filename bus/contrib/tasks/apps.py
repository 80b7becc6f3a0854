"""The configuration of the app ``bus.contrib.tasks``."""

from __future__ import annotations

from importlib.util import find_spec

from django.apps import AppConfig, apps


class TasksConfig(AppConfig):
    """``bus.contrib.tasks``: the state and progress of tasks on channels."""

    name = "bus.contrib.tasks"
    label = "bus_tasks"
    verbose_name = "ArqonBus: tasks"

    def ready(self) -> None:
        """Listen to the task systems that the project has. None of them is needed.

        Raises ``ImproperlyConfigured`` for wrong settings.
        """
        from . import from_django
        from .conf import config

        config()
        if find_spec("django.tasks"):
            from_django.connect("django.tasks.signals")
        if apps.is_installed("django_tasks"):
            from_django.connect("django_tasks.signals")
        if find_spec("celery"):
            from . import from_celery

            from_celery.connect()
