"""The node's figures: for whoever asks, and told from time to time: a line in the log, and a signal for telemetry."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ... import signals
from ...monitoring import metrics
from ...services import totals

if TYPE_CHECKING:
    from ..node import Node

logger = logging.getLogger("arqonbus.stats")


class Statistics:
    """Tells what goes on, with the rate since it told last."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._begun = False
        self._reported = self._announced = (node.loop.time(), 0)
        self._published = list(node.log_times.publish.counts)

    def figures(self) -> dict[str, Any]:
        """This process's figures, for status, metrics and the console."""
        node = self._node
        return {
            "connections": len(node.clients.by_connection),
            "clients": len(node.clients.by_id),
            "frames_received": node.received,
            "received_bytes": node.received_bytes,
            "messages_published": node.announcer.published,
            "streams": len(node.hub.streams),
            "memberships": sum(len(stream.members) for stream in node.hub.streams.values()),
            "tasks": len(node.short_tasks) + node.streams.working,
            "delivered": node.hub.delivered,
            "delivered_bytes": node.hub.delivered_bytes,
            "log_queue": len(node.log),
            "gaps": node.streams.gaps,
            "repaired": node.streams.repaired,
            "bells_skipped": node.broker.skipped,
            "bell_queue_bytes": node.broker.waiting_bytes,
            "recent_bytes": node.hub.recent_bytes,
            "layer_connected": node.broker.connected,
            "store_available": node.log.available,
            "errors_by_code": metrics.by_code(metrics.errors),
            "disconnects_by_code": metrics.by_code(metrics.disconnects),
            "uptime_seconds": round((datetime.now(UTC) - node.started_at).total_seconds(), 1),
        }

    async def report(self) -> float:
        """The log's line; returns the seconds until the next one."""
        node = self._node
        if not self._begun:
            self._begun = True
            return node.settings.stats_interval
        everywhere = await node.run(totals.stats)
        rate, self._reported = self._rate_since(self._reported)
        logger.info(
            "%d clients are connected (%d of them here) in %d channels of %d rooms; %d messages so far, %.1f a second here",
            everywhere["active_connections"],
            len(node.clients.by_id),
            everywhere["active_channels"],
            everywhere["active_rooms"],
            everywhere["total_messages"],
            rate,
            extra={
                "event": "stats",
                "node": node.id,
                "clients": everywhere["active_connections"],
                "clients_here": len(node.clients.by_id),
                "rooms": everywhere["active_rooms"],
                "channels": everywhere["active_channels"],
                "messages": everywhere["total_messages"],
                "rate": round(rate, 1),
            },
        )
        return node.settings.stats_interval

    async def announce(self) -> float:
        """The signal ``server_stats``; returns the seconds until the next one."""
        node = self._node
        everywhere = await node.run(totals.stats)
        rate, self._announced = self._rate_since(self._announced)
        figures = self.figures()
        stats: dict[str, Any] = {
            **everywhere,
            "messages_per_second": round(rate, 1),
            "process": {
                name: figures[name]
                for name in (
                    "connections",
                    "clients",
                    "frames_received",
                    "messages_published",
                    "delivered",
                    "log_queue",
                    "gaps",
                    "uptime_seconds",
                )
            }
            | {"errors": sum(metrics.by_code(metrics.errors).values()), **self._latency()},
        }
        signals.server_stats.send_robust(type(node), node=node.id, stats=stats)
        return node.settings.telemetry_interval

    def _latency(self) -> dict[str, float | None]:
        """From a message's arrival at the log to its commit, in milliseconds, for those since the last announcement."""
        times = self._node.log_times.publish
        before, self._published = self._published, list(times.counts)
        found = {name: times.quantile(share, before) for name, share in (("p50", 0.5), ("p99", 0.99))}
        return {f"publish_{name}_ms": None if at is None else round(at * 1000, 3) for name, at in found.items()}

    def _rate_since(self, before: tuple[float, int]) -> tuple[float, tuple[float, int]]:
        """Messages of clients a second since then, and where to count from the next time."""
        node = self._node
        now, count = node.loop.time(), node.announcer.client_messages
        return (count - before[1]) / max(now - before[0], 0.001), (now, count)
