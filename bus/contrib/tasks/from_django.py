"""The tasks of Django 6, and those of its backport ``django-tasks`` for older ones."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from . import runs
from .telling import tell


def connect(module: str) -> None:
    """Listen to the signals of a module, ``django.tasks.signals`` or ``django_tasks.signals``."""
    signals = import_module(module)
    signals.task_enqueued.connect(_enqueued, dispatch_uid="bus.contrib.tasks")
    signals.task_started.connect(_started, dispatch_uid="bus.contrib.tasks")
    signals.task_finished.connect(_finished, dispatch_uid="bus.contrib.tasks")


def disconnect(module: str) -> None:
    """Listen no longer."""
    signals = import_module(module)
    for signal in (signals.task_enqueued, signals.task_started, signals.task_finished):
        signal.disconnect(dispatch_uid="bus.contrib.tasks")


def _run(result: Any) -> runs.Run:
    return runs.Run(
        str(result.id), result.task.module_path, tuple(result.args), dict(result.kwargs), len(result.worker_ids)
    )


def _enqueued(task_result: Any, **_: Any) -> None:
    tell(_run(task_result), "queued")


def _started(task_result: Any, **_: Any) -> None:
    run = _run(task_result)
    runs.begin(run)
    tell(run, "running")


def _finished(task_result: Any, **_: Any) -> None:
    run = runs.end(str(task_result.id)) or _run(task_result)
    # A backend that retries makes a failed task ready again.
    state: runs.State = {"SUCCESSFUL": "succeeded", "FAILED": "failed"}.get(str(task_result.status), "retrying")  # type: ignore[assignment]
    errors = [] if state == "succeeded" else task_result.errors
    tell(run, state, error=errors[-1].exception_class_path.rpartition(".")[2] if errors else "")
