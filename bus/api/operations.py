"""Addresses for operators and load balancers: /health, /ready, /version, /metrics (docs/operations.md, Health)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.core import Metric

from .._speed import PATH
from ..db import faults as database
from ..db.faults import without_transaction
from ..log import heads
from ..monitoring import metrics
from ..node import Node, current
from ..protocol.errors import BusError
from ..services import handlers as handler_service
from ..services import nodes, totals
from ..shapes import Process
from ..version import PROTOCOL, VERSION

logger = logging.getLogger("arqonbus.operations")

Read = TypeVar("Read")

#: Seconds that the database may take to answer a probe.
PROBE_TIMEOUT = 2.0


@without_transaction
async def health(request: HttpRequest) -> JsonResponse:
    """Health: 200 while the event loop of the process runs."""
    return JsonResponse({"status": "ok"})


@without_transaction
async def ready(request: HttpRequest) -> JsonResponse:
    """Whether a load balancer may send clients to this process: 200, or 503 with the missing parts.

    The status is 503 while the process drains, the database refuses writes, or the channel layer does not deliver.
    """
    node = current()
    if node.traffic.draining:
        return _probed({"status": "draining"}, good=False)
    parts = {"database": True, "layer": True}
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await node.start()
            await node.runtime.run(_answers)
            # The heartbeat is a write, so it also finds other causes of refused writes, such as a full disk.
            parts["database"] = node.log.available
    except (BusError, DatabaseError, TimeoutError):
        parts["database"] = False
    parts["layer"] = node.broker.connected
    good = all(parts.values())
    return _probed({"status": "ready" if good else "unavailable", **parts}, good)


def _answers() -> None:
    """Raise the database's error if it does not answer, lacks the tables, or refuses writes."""
    heads([0])
    database.check_writing()


def _probed(told: dict[str, Any], good: bool) -> JsonResponse:
    answer = JsonResponse(told, status=200 if good else 503)
    # Probes come every few seconds. The bus logs a fault once, and Django must not add a line for each probe.
    answer._has_been_logged = True  # type: ignore[attr-defined]
    return answer


@without_transaction
async def version(request: HttpRequest) -> JsonResponse:
    """The version of the server. ``node`` is the process that answered, and ``path`` the code that serves its messages."""
    node = current().runtime.node_id
    return JsonResponse({"name": "arqonbus", "version": VERSION, "protocol": PROTOCOL, "node": node, "path": PATH})


@without_transaction
async def metrics_page(request: HttpRequest) -> HttpResponse:
    """The figures of this process and of the cluster, as Prometheus text (docs/operations.md, Metrics)."""
    node = current()
    labels = {"node": node.runtime.node_id}
    return _page(
        [
            *metrics.of_registry(labels),
            *metrics.of_nodes([(labels, node.statistics.figures())]),
            *metrics.of_log(labels, node.log_times),
            *await _cluster(node),
        ]
    )


@without_transaction
async def cluster_metrics_page(request: HttpRequest) -> HttpResponse:
    """The figures of every process at its last heartbeat, for workers that share a port."""
    node = current()
    rows = await _in_time(node, _living) or []
    each = [({"node": row.id, "host": row.host, "pid": str(row.pid)}, row.stats) for row in rows]
    return _page([*metrics.of_nodes(each), *metrics.of_codes(each), *await _cluster(node)])


async def _cluster(node: Node) -> Iterable[Metric]:
    """The figures from the database. Empty while it does not answer, so that the other figures stay available."""
    rows = await _in_time(node, _living)
    stats = await _in_time(node, totals.stats) if rows is not None else None
    if rows is None or stats is None:
        return ()
    handlers = await _in_time(node, handler_service.figures)
    return [*metrics.of_cluster(len(rows), stats), *metrics.of_handlers(handlers or ())]


async def _in_time(node: Node, read: Callable[[], Read]) -> Read | None:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            answer: Read = await node.runtime.run(read)
            return answer
    except (DatabaseError, TimeoutError, RuntimeError) as problem:
        logger.debug("cannot read the figures of the database: %s", type(problem).__name__)
        return None


def _living() -> list[Process]:
    return [row for row in nodes.rows() if row.alive]


def _page(families: Iterable[Metric]) -> HttpResponse:
    return HttpResponse(metrics.page(families), content_type=CONTENT_TYPE_LATEST)


#: The pages by path, for ``bus.middleware.OperationsMiddleware``.
PAGES: dict[str, Callable[[HttpRequest], Awaitable[HttpResponse]]] = {
    "/health": health,
    "/ready": ready,
    "/version": version,
    "/metrics": metrics_page,
    "/metrics/cluster": cluster_metrics_page,
}
