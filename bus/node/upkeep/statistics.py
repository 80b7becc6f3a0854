"""The figures of a node, for status, metrics and console, for a regular log line and for a regular signal."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from ... import signals
from ...log import LogWriter
from ...monitoring import metrics
from ...notify.broker import Broker
from ...publishing.announce import Announcer
from ...realtime.hub import Hub
from ...services import totals
from ...shapes import Stats
from ..client import Clients
from ..delivery.growing import Growing
from ..delivery.streams import Streams
from ..jobs import Work
from ..runtime import Runtime

logger = logging.getLogger("arqonbus.stats")


class Count(NamedTuple):
    """The clients' messages that were published until a moment."""

    at: float
    messages: int


class Statistics:
    """Reads the figures of every part of a node."""

    def __init__(
        self,
        runtime: Runtime,
        clients: Clients,
        hub: Hub,
        streams: Streams,
        log: LogWriter,
        announcer: Announcer,
        broker: Broker,
        growing: Growing,
        work: Work,
        times: metrics.LogTimes,
    ) -> None:
        self._runtime = runtime
        self._clients = clients
        self._hub = hub
        self._streams = streams
        self._log = log
        self._announcer = announcer
        self._broker = broker
        self._growing = growing
        self._work = work
        self._times = times
        self._begun = False
        self._reported = self._announced = Count(runtime.loop.time(), 0)
        self._published = list(times.publish.counts)

    def figures(self) -> dict[str, Any]:
        """Return this process's figures, for status, metrics and the console."""
        traffic, hub = self._runtime.traffic, self._hub
        return {
            "connections": len(self._clients.by_connection),
            "clients": len(self._clients.by_id),
            "frames_received": traffic.received,
            "received_bytes": traffic.received_bytes,
            "messages_published": self._announcer.published,
            "streams": len(hub.streams),
            "memberships": sum(len(stream.members) for stream in hub.streams.values()),
            "tasks": len(self._runtime.short_tasks) + self._streams.working,
            "delivered": hub.delivered,
            "delivered_bytes": hub.delivered_bytes,
            "log_queue": len(self._log),
            "gaps": self._streams.gaps,
            "repaired": self._streams.repaired,
            "parts": self._announcer.parts,
            "snapshots": self._growing.snapshots,
            "parts_skipped": hub.skipped,
            "open_streams": self._growing.open,
            "jobs_claimed": self._work.claimed,
            "jobs_ended": self._work.ended,
            "claims_waiting": self._work.waiting,
            "bells_skipped": self._broker.skipped,
            "bell_queue_bytes": self._broker.waiting_bytes,
            "recent_bytes": hub.recent_bytes,
            "layer_connected": self._broker.connected,
            "store_available": self._log.available,
            "errors_by_code": metrics.by_code(metrics.errors),
            "disconnects_by_code": metrics.by_code(metrics.disconnects),
            "uptime_seconds": round((datetime.now(UTC) - self._runtime.started_at).total_seconds(), 1),
        }

    async def report(self) -> float:
        """Log a line with the figures. Return the seconds until the next one."""
        if not self._begun:
            self._begun = True
            return self._runtime.settings.stats_interval
        everywhere: Stats = await self._runtime.run(totals.stats)
        rate, self._reported = self._rate_since(self._reported)
        logger.info(
            "%d clients (%d in this process) in %d channels of %d rooms; %d messages so far, %.1f a second in this process",
            everywhere.active_connections,
            len(self._clients.by_id),
            everywhere.active_channels,
            everywhere.active_rooms,
            everywhere.total_messages,
            rate,
            extra={
                "event": "stats",
                "node": self._runtime.node_id,
                "clients": everywhere.active_connections,
                "clients_here": len(self._clients.by_id),
                "rooms": everywhere.active_rooms,
                "channels": everywhere.active_channels,
                "messages": everywhere.total_messages,
                "rate": round(rate, 1),
            },
        )
        return self._runtime.settings.stats_interval

    async def announce(self) -> float:
        """Send the signal ``server_stats``. Return the seconds until the next one."""
        everywhere: Stats = await self._runtime.run(totals.stats)
        rate, self._announced = self._rate_since(self._announced)
        figures = self.figures()
        stats: dict[str, Any] = {
            **msgspec.structs.asdict(everywhere),
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
        signals.server_stats.send_robust(Statistics, node=self._runtime.node_id, stats=stats)
        return self._runtime.settings.telemetry_interval

    def _latency(self) -> dict[str, float | None]:
        """Return the milliseconds from a message's arrival at the log to its commit, since the last announcement."""
        times = self._times.publish
        before, self._published = self._published, list(times.counts)
        found = {name: times.quantile(share, before) for name, share in (("p50", 0.5), ("p99", 0.99))}
        return {f"publish_{name}_ms": None if at is None else round(at * 1000, 3) for name, at in found.items()}

    def _rate_since(self, before: Count) -> tuple[float, Count]:
        """Return the clients' messages a second since ``before``, and the count of now."""
        now = Count(self._runtime.loop.time(), self._announcer.client_messages)
        return (now.messages - before.messages) / max(now.at - before.at, 0.001), now
