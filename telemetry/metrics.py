"""The metrics of telemetry (docs/operations.md explains each), and the rate limit of activity events."""

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

#: Activity events a second of one process, and how many may come at once; further ones are left out. An event costs as much
#: as a message, and thousands of busy clients must not double the work of the log.
ACTIVITY_RATE = 200.0
ACTIVITY_BURST = 1000.0


def meter(node: Node) -> TokenBucket:
    """The rate limit of a node's activity events."""
    meters = apps.get_app_config("telemetry").meters  # type: ignore[attr-defined]
    found: TokenBucket | None = meters.get(node)
    if found is None:
        found = meters[node] = TokenBucket(ACTIVITY_RATE, ACTIVITY_BURST, node.runtime.loop.time())
    return found
