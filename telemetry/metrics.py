"""Telemetry's own lines of ``/metrics`` (docs/operations.md explains each), and the bound on notes of activity."""

from __future__ import annotations

from django.apps import apps
from prometheus_client import Counter

from bus.monitoring.metrics import registry
from bus.node import Node
from bus.protocol.limits import TokenBucket

events = Counter(
    "arqonbus_telemetry_events", "Telemetry published by this process, by origin", ["origin"], registry=registry
)
skipped = Counter(
    "arqonbus_telemetry_skipped",
    "Server events and activity events that were left out under load",
    registry=registry,
)

#: Notes of activity a second of one process, above which they are left out, and how many may be saved up. A note costs as
#: much as a message; thousands of busy clients must not double the work of the log.
ACTIVITY_RATE = 200.0
ACTIVITY_BURST = 1000.0


def meter(node: Node) -> TokenBucket:
    """The bound on a node's notes of activity."""
    meters = apps.get_app_config("telemetry").meters  # type: ignore[attr-defined]
    found: TokenBucket | None = meters.get(node)
    if found is None:
        found = meters[node] = TokenBucket(ACTIVITY_RATE, ACTIVITY_BURST, node.runtime.loop.time())
    return found
