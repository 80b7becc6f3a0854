"""The state and progress of background tasks on the bus: Django's tasks, and those of Celery (docs/django.md).

::

    INSTALLED_APPS = [..., "bus", "bus.contrib.tasks"]

    from bus.contrib.tasks import progress

    @task()
    def export(order_ids):
        for done, key in enumerate(order_ids):
            progress(done, len(order_ids), text=f"order {key}")

Each task has a channel ``tasks:<id>``. Each message of it tells everything that is known of the task, so that the newest is
enough.
"""

from __future__ import annotations

from .progressing import aprogress, progress
from .runs import Run, address_of

__all__ = ["Run", "address_of", "aprogress", "progress"]
