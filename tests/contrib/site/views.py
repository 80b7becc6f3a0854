"""Begin tasks, and show one of them."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from functools import cache
from typing import Any

from celery.contrib.testing.worker import start_worker
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone

from bus.models import Message
from tests.contrib import queues


@cache
def worker() -> Any:
    """A worker of Celery in this process, until its end."""
    context = start_worker(queues.app, perform_ping_check=False)
    context.__enter__()
    return context


_lock = threading.Lock()


def start(request: HttpRequest) -> JsonResponse:
    """Begin a task of each kind. Answer with their ids."""
    with _lock:
        worker()
    late = timezone.now() - timedelta(minutes=1)
    return JsonResponse(
        {
            "counted": queues.celery_count.delay(2).id,
            "spoiled": queues.celery_spoil.delay().id,
            "again": queues.celery_again.delay().id,
            "late": queues.celery_count.apply_async((2,), expires=late).id,
            "django": queues.count.enqueue(2).id,
        }
    )


def begin(request: HttpRequest, key: str) -> HttpResponse:
    """Begin a task of Celery with an id that is known before."""
    queues.celery_count.apply_async((2,), task_id=key)
    return HttpResponse()


def told(request: HttpRequest, key: str) -> JsonResponse:
    """What was told of a task."""
    found = Message.objects.filter(channel__room__name="tasks", channel__name=key).order_by("seq")
    return JsonResponse([json.loads(message.frame)["payload"] for message in found], safe=False)


def page(request: HttpRequest, key: str) -> HttpResponse:
    """A page with the task's bar."""
    return render(request, "contrib/task.html", {"task": key})
