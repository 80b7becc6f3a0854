"""The tasks of the tests: Django's own, or those of its backport, and Celery's."""

from __future__ import annotations

import asyncio
import importlib
from importlib.util import find_spec
from typing import Any

from celery import Celery

from bus.contrib.tasks import aprogress, progress

#: Django 6 has tasks; for older ones the package has the same.
TASKS = "django.tasks" if find_spec("django.tasks") else "django_tasks"
task: Any = importlib.import_module(TASKS).task

app = Celery("tests", broker="memory://", set_as_current=False)
app.conf.update(worker_hijack_root_logger=False, task_ignore_result=True)


@task()
def count(total: int) -> int:
    """Count, and say each step."""
    for done in range(1, total + 1):
        progress(done, total, text=f"step {done}")
    return total


@task()
async def count_asleep(total: int) -> None:
    """Count as a coroutine."""
    for done in range(1, total + 1):
        await asyncio.sleep(0)
        await aprogress(done, total)


@task()
def spoil() -> None:
    """Fail half-way."""
    progress(1, 2)
    raise LookupError("a secret of the task")


@app.task
def celery_count(total: int) -> None:
    """As `count`."""
    count.func(total)


@app.task
def celery_spoil() -> None:
    """As `spoil`."""
    spoil.func()


@app.task(bind=True, max_retries=1)
def celery_again(self: Any) -> None:
    """Fail at first."""
    if not self.request.retries:
        try:
            raise ConnectionError("a secret of the task")
        except ConnectionError as problem:
            raise self.retry(exc=problem, countdown=0) from None
