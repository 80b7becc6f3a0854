"""What ``/metrics`` shows (docs/operations.md explains each line)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

registry = CollectorRegistry()

connections = Gauge("arqonbus_connections", "Open connections of this process", ["socket"], registry=registry)
connections_total = Counter("arqonbus_connections_opened", "Connections opened", ["socket"], registry=registry)
disconnects = Counter("arqonbus_disconnects", "Connections closed, by code", ["code"], registry=registry)
received = Counter("arqonbus_frames_received", "Frames received from clients", registry=registry)
received_bytes = Counter("arqonbus_received_bytes", "Bytes of frames received", registry=registry)
published = Counter("arqonbus_messages_published", "Messages committed or passed on by this process", registry=registry)
errors = Counter("arqonbus_errors", "Errors told to clients, by code", ["code"], registry=registry)
limits = Counter("arqonbus_limits_reached", "Connections refused or ended by a limit", ["limit"], registry=registry)
commands = Counter("arqonbus_commands", "Commands carried out", ["command"], registry=registry)
_fine = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)
publish_seconds = Histogram(
    "arqonbus_publish_seconds", "From a message's arrival to its commit", buckets=_fine, registry=registry
)
commit_seconds = Histogram(
    "arqonbus_commit_seconds", "Length of the log's transactions", buckets=_fine, registry=registry
)
commit_entries = Histogram(
    "arqonbus_commit_entries",
    "Messages of one transaction",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
    registry=registry,
)

_figures: dict[str, Gauge] = {
    name: Gauge(f"arqonbus_{name}", text, registry=registry)
    for name, text in {
        "streams": "Logs that this process has members of",
        "delivered": "Frames handed to the writers, one for each receiver",
        "delivered_bytes": "Bytes of frames handed to the writers",
        "log_queue": "Messages that wait for the log",
        "gaps": "Times that a message came before its turn",
        "repaired": "Messages read from the log since no bell announced them",
        "layer_connected": "Whether the channel layer takes bells",
        "store_available": "Whether the last transaction of the log went well",
    }.items()
}


def collect(figures: Mapping[str, Any]) -> None:
    """Take over a node's figures (``Node.figures``) before the page is made."""
    for name, gauge in _figures.items():
        gauge.set(float(figures[name]))


def observe_commit(entries: int, seconds: float) -> None:
    """A transaction of the log: how many messages, how long."""
    commit_seconds.observe(seconds)
    commit_entries.observe(entries)
