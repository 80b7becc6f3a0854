"""The tasks of Celery, by its signals. Only this module imports Celery."""

from __future__ import annotations

from typing import Any

from celery import signals

from . import runs
from .telling import tell


def connect() -> None:
    """Listen to the tasks that this process sends and runs."""
    for signal, receiver in _RECEIVERS:
        signal.connect(receiver, weak=False, dispatch_uid="bus.contrib.tasks")


def disconnect() -> None:
    """Listen no longer."""
    for signal, _ in _RECEIVERS:
        signal.disconnect(dispatch_uid="bus.contrib.tasks")


def _sent(sender: str, headers: Any = None, body: Any = None, **_: Any) -> None:
    """A task goes to the broker. It was told of before that, so that no worker is faster."""
    headers = headers or {}
    if "id" not in headers or headers.get("retries"):
        return  # `_retried` tells of a task that is sent again.
    args, kwargs = body[:2] if isinstance(body, (tuple, list)) and len(body) >= 2 else ((), {})
    tell(runs.Run(headers["id"], sender, tuple(args), dict(kwargs)), "queued")


def _began(sender: Any, task_id: str, args: Any = (), kwargs: Any = None, **_: Any) -> None:
    run = runs.Run(task_id, sender.name, tuple(args or ()), dict(kwargs or {}), sender.request.retries + 1)
    runs.begin(run)
    tell(run, "running")


def _ended(task_id: str, **_: Any) -> None:
    runs.end(task_id)


def _known(request: Any, name: str) -> runs.Run:
    """The task of a request, as it runs here, or as the worker's main process knows it."""
    args, kwargs = getattr(request, "args", None), getattr(request, "kwargs", None)
    return runs.running(request.id) or runs.Run(
        request.id,
        name,
        tuple(args) if isinstance(args, (list, tuple)) else (),
        dict(kwargs) if isinstance(kwargs, dict) else {},
        (getattr(request, "retries", 0) or 0) + 1,
    )


def _succeeded(sender: Any, **_: Any) -> None:
    tell(_known(sender.request, sender.name), "succeeded")


def _failed(sender: Any, task_id: str, exception: Any = None, args: Any = (), kwargs: Any = None, **_: Any) -> None:
    run = runs.running(task_id) or runs.Run(task_id, sender.name, tuple(args or ()), dict(kwargs or {}))
    tell(run, "failed", error=type(exception).__name__)


def _retried(sender: Any, request: Any, reason: Any = None, **_: Any) -> None:
    cause = getattr(reason, "exc", None)
    tell(_known(request, sender.name), "retrying", error="" if cause is None else type(cause).__name__)


def _revoked(sender: Any, request: Any, expired: bool = False, **_: Any) -> None:
    tell(_known(request, sender.name), "cancelled", error="Expired" if expired else "")


_RECEIVERS = (
    (signals.before_task_publish, _sent),
    (signals.task_prerun, _began),
    (signals.task_success, _succeeded),
    (signals.task_failure, _failed),
    (signals.task_retry, _retried),
    (signals.task_revoked, _revoked),
    (signals.task_postrun, _ended),
)
