"""A Celery application with one task that does nothing, for the workload of jobs.

`python -m bench.peers.celery_tasks JOBS` queues tasks. The worker writes its times into the file `CELERY_TIMES`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from celery import Celery

app = Celery("bench", broker=os.environ["CELERY_BROKER"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
_lock = threading.Lock()
_ended: list[float] = []


@app.task(name="job")
def job(text: str) -> None:
    """Note the time. With the last one, write when the first and the last task ran."""
    with _lock:
        _ended.append(time.time())
        if len(_ended) == int(os.environ["CELERY_JOBS"]):
            Path(os.environ["CELERY_TIMES"]).write_text(json.dumps({"first": _ended[0], "last": _ended[-1]}))


if __name__ == "__main__":
    with app.pool.acquire(block=True) as connection:
        for _ in range(int(sys.argv[1])):
            app.send_task("job", ("x" * 200,), connection=connection)
