"""What operators and load balancers ask: /health, /ready, /version, /metrics (contract §1)."""

from __future__ import annotations

import asyncio

from django.apps import apps
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from .. import metrics
from ..log import heads
from ..node import current
from ..protocol.errors import BusError
from ..version import PROTOCOL, VERSION

#: Seconds that the database may take to answer a readiness probe.
PROBE_TIMEOUT = 2.0


async def health(request: HttpRequest) -> JsonResponse:
    """The process lives: 200 as long as its loop turns."""
    return JsonResponse({"status": "ok"})


async def ready(request: HttpRequest) -> JsonResponse:
    """Whether to send clients here: 200, or 503 with what is missing (drain, database, channel layer)."""
    node = current()
    if node.draining:
        return JsonResponse({"status": "draining"}, status=503)
    parts = {"database": True, "layer": True}
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await node.start()
            await node.run(heads, [0])
    except (BusError, DatabaseError, TimeoutError):
        parts["database"] = False
    parts["layer"] = node.broker.connected
    good = all(parts.values())
    return JsonResponse({"status": "ready" if good else "unavailable", **parts}, status=200 if good else 503)


async def version(request: HttpRequest) -> JsonResponse:
    """What runs here."""
    return JsonResponse({"name": "arqonbus", "version": VERSION, "protocol": PROTOCOL})


async def metrics_page(request: HttpRequest) -> HttpResponse:
    """This process's figures as Prometheus text (docs/operations.md explains each)."""
    for node in list(apps.get_app_config("bus").nodes):  # type: ignore[attr-defined]
        metrics.collect(node.figures())
    return HttpResponse(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)
