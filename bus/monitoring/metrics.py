"""The metrics of ``/metrics`` (docs/operations.md explains each line).

Counts on the path of a message are plain integers of the node or the hub, and a request for the page reads them. A
Prometheus counter would take a lock for each ``inc()``. Counters of rarer events are Prometheus's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric, Sample

from .._speed import core
from ..protocol.errors import CLOSE_CODES, ERRORS
from ..protocol.names import SERVER
from ..shapes import Stats

registry = CollectorRegistry()

connections = Gauge("arqonbus_connections", "Open connections of this process", ["socket"], registry=registry)
connections_total = Counter("arqonbus_connections_opened", "Connections opened", ["socket"], registry=registry)
disconnects = Counter("arqonbus_disconnects", "Connections closed, by code", ["code"], registry=registry)
errors = Counter("arqonbus_errors", "Errors sent to clients, by code", ["code"], registry=registry)
limits = Counter("arqonbus_limits_reached", "Connections refused or closed by a limit", ["limit"], registry=registry)
fragments = Counter("arqonbus_fragments_rendered", "Messages rendered as HTML for live pages", registry=registry)
fragments_failed = Counter("arqonbus_fragments_failed", "Renderings for live pages that failed", registry=registry)
history_pages = Counter(
    "arqonbus_history_pages", "Pages of history with a read replica, by the database", ["database"], registry=registry
)
commands = Counter("arqonbus_commands", "Successful commands", ["command"], registry=registry)
compiled = Gauge("arqonbus_compiled", "Whether the compiled path serves the usual messages", registry=registry)
compiled.set(core is not None)


@cache
def _of_kind(kind: str) -> tuple[Gauge, Counter]:
    return connections.labels(kind), connections_total.labels(kind)


def opened(kind: str) -> None:
    """Count a connection of a kind of socket."""
    now, total = _of_kind(kind)
    now.inc()
    total.inc()


def close_label(code: int) -> str:
    """Return the label of a close code.

    Codes that only a client can have made up share one label, because each label is a series that stays.
    """
    return str(code) if 1000 <= code <= 1015 or code in CLOSE_CODES else "other"


# A series that begins with its first count shows no increase. Then no alert would fire for the first INTERNAL_ERROR.
for _code in ERRORS:
    errors.labels(_code)
for _close in CLOSE_CODES:
    disconnects.labels(str(_close))


_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_ENTRIES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)


class Committed(Protocol):
    """The fields of a committed message that the figures of the log need."""

    @property
    def sender(self) -> str:
        """The client id of the sender."""

    @property
    def queued_at(self) -> float:
        """The loop time in seconds at which the message entered the log's queue."""


class Distribution:
    """A histogram of plain numbers, written by a single thread."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return pairs of a bound and a cumulative count, as Prometheus expects them."""
        rows, below = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            below += count
            rows.append((bound, float(below)))
        return rows

    def quantile(self, share: float, before: Sequence[int]) -> float | None:
        """Return the value below which ``share`` (0 to 1) of the values since ``before`` lie; None without values.

        ``before`` is an earlier copy of ``counts``. The value is interpolated within a bucket, as in Prometheus. Above
        the last bound it is that bound.
        """
        fresh = [now - then for now, then in zip(self.counts, before, strict=True)]
        wanted = share * sum(fresh)
        if not wanted:
            return None
        below, low = 0.0, 0.0
        for bound, count in zip(self.bounds, fresh[:-1], strict=True):
            if count and below + count >= wanted:
                return low + (bound - low) * (wanted - below) / count
            below, low = below + count, bound
        return self.bounds[-1]


class LogTimes:
    """The times of a node's log in seconds: ``publish`` for each message, ``commit`` for each transaction.

    ``entries`` counts the messages of each transaction.
    """

    def __init__(self) -> None:
        self.publish = Distribution(_SECONDS)
        self.commit = Distribution(_SECONDS)
        self.entries = Distribution(_ENTRIES)

    def observe(self, batch: Sequence[Committed], began: float, ended: float) -> None:
        """Count a transaction of ``batch``, with its begin and end in loop time (seconds). Called in the log's thread."""
        self.commit.observe(ended - began)
        self.entries.observe(len(batch))
        observe = self.publish.observe
        for entry in batch:
            # The figure is for clients' messages. Nobody waits for the server's own messages.
            if entry.sender != SERVER:
                observe(ended - entry.queued_at)


def by_code(counter: Counter) -> dict[str, int]:
    """Return the counts of :data:`errors` or :data:`disconnects` of this process by code, without zeros."""
    return {
        sample.labels["code"]: int(sample.value)
        for family in counter.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.value
    }


#: Figures that only grow: name and meaning.
_COUNTERS = {
    "frames_received": "Frames received from clients",
    "received_bytes": "Bytes of frames received",
    "messages_published": "Messages committed or passed on by this process",
    "delivered": "Frames given to sockets, one for each receiver",
    "delivered_bytes": "Bytes of frames given to sockets",
    "gaps": "Messages that arrived too early",
    "repaired": "Messages read from the log because no notification announced them",
    "parts": "Parts of streamed messages committed by this process",
    "snapshots": "Snapshots of streamed messages given to members that joined late, lacked parts or read slowly",
    "jobs_claimed": "Jobs of work channels that clients of this process claimed",
    "jobs_ended": "Claims that clients of this process ended with done, release or reject",
    "parts_skipped": "Parts of streamed messages left out for members that read too slowly",
    "bells_skipped": "Ephemeral messages and presence notices that were not sent to the other processes",
}
#: Figures that rise and fall: name and meaning.
_GAUGES = {
    "clients": "Registered clients of this process",
    "streams": "Logs with members in this process",
    "open_streams": "Streamed messages that grow in logs with members in this process",
    "claims_waiting": "Claims that wait for a job",
    "log_queue": "Messages that wait for the log",
    "bell_queue_bytes": "Bytes of notifications that wait for the channel layer",
    "recent_bytes": "Bytes of recent messages in memory",
    "layer_connected": "Whether the channel layer accepts notifications",
    "store_available": "Whether the database accepts writes",
    "uptime_seconds": "Time since the process began to serve",
}
#: Figures of all processes, from the database.
_CLUSTER = {
    "active_connections": ("clients", "Connected clients"),
    "active_rooms": ("rooms", "Rooms with members"),
    "active_channels": ("channels", "Channels with members"),
}
_CLUSTER_COUNTERS = {
    "total_connections": ("connections", "All registrations so far"),
    "total_messages": ("messages", "All messages of clients so far"),
}
_HISTOGRAMS = {
    "publish": ("arqonbus_publish_seconds", "Time from a message's arrival at the log to its commit"),
    "commit": ("arqonbus_commit_seconds", "Duration of the log's transactions"),
    "entries": ("arqonbus_commit_entries", "Messages of one transaction"),
}


def of_nodes(rows: Iterable[tuple[Mapping[str, str], Mapping[str, Any]]]) -> Iterator[Metric]:
    """Yield the metrics of nodes, from pairs of labels and ``Statistics.figures()``.

    Figures that a node of an older version does not have are left out.
    """
    rows = list(rows)
    names = list(rows[0][0]) if rows else []
    families: list[tuple[str, CounterMetricFamily | GaugeMetricFamily]] = [
        (name, CounterMetricFamily(f"arqonbus_{name}", text, labels=names)) for name, text in _COUNTERS.items()
    ]
    families += [(name, GaugeMetricFamily(f"arqonbus_{name}", text, labels=names)) for name, text in _GAUGES.items()]
    for name, family in families:
        for labels, figures in rows:
            if name in figures:
                family.add_metric(list(labels.values()), float(figures[name]))
        yield family


def of_codes(rows: Iterable[tuple[Mapping[str, str], Mapping[str, Any]]]) -> Iterator[Metric]:
    """Yield the counts by code of nodes, from pairs as for :func:`of_nodes`.

    The page of all processes needs them, because the registry only has the counts of its own process.
    """
    rows = list(rows)
    names = [*(rows[0][0] if rows else []), "code"]
    for name, text, codes in (
        ("errors", "Errors sent to clients, by code", ERRORS),
        ("disconnects", "Connections closed, by code", [str(code) for code in CLOSE_CODES]),
    ):
        family = CounterMetricFamily(f"arqonbus_{name}", text, labels=names)
        for labels, figures in rows:
            if (counted := figures.get(f"{name}_by_code")) is not None:
                for code, count in {**dict.fromkeys(codes, 0), **counted}.items():
                    family.add_metric([*labels.values(), code], float(count))
        yield family


def of_log(labels: Mapping[str, str], times: LogTimes) -> Iterator[Metric]:
    """Yield the histograms of a node's log."""
    for name, (shown, text) in _HISTOGRAMS.items():
        distribution: Distribution = getattr(times, name)
        family = HistogramMetricFamily(shown, text, labels=list(labels))
        family.add_metric(list(labels.values()), distribution.buckets(), sum_value=distribution.total)
        yield family


def of_cluster(nodes: int, stats: Stats) -> Iterator[Metric]:
    """Yield the figures of all processes (``services.totals.stats``) and the number of processes."""
    yield GaugeMetricFamily("arqonbus_cluster_nodes", "Processes with a recent heartbeat", value=nodes)
    for name, (shown, text) in _CLUSTER.items():
        yield GaugeMetricFamily(
            f"arqonbus_cluster_{shown}", f"{text}, over all processes", value=float(getattr(stats, name))
        )
    for name, (shown, text) in _CLUSTER_COUNTERS.items():
        yield CounterMetricFamily(
            f"arqonbus_cluster_{shown}", f"{text}, over all processes", value=float(getattr(stats, name))
        )


class HandlerFigures(Protocol):
    """The figures of a handler of the project over all its channels."""

    @property
    def name(self) -> str:
        """The name of the handler."""

    @property
    def running(self) -> bool:
        """Whether a process said lately that it runs the handler."""


#: Figures of handlers of the project, from the database: name, whether it only grows, and meaning.
_HANDLERS = (
    ("lag", False, "Messages that a handler has not handled"),
    ("handled", True, "Messages that a handler handled"),
    ("failed", True, "Attempts of a handler that failed"),
    ("lost", True, "Messages that were removed before a handler came to them"),
    ("waiting", False, "Channels in which a handler waits for another attempt"),
    ("stopped", False, "Channels in which a handler stands still"),
    ("running", False, "Whether a process runs the handler"),
)


def of_handlers(rows: Sequence[HandlerFigures]) -> Iterator[Metric]:
    """Yield the figures of handlers (``services.handlers.figures``). Without handlers they have names and no samples."""
    for name, grows, text in _HANDLERS:
        family: CounterMetricFamily | GaugeMetricFamily = (CounterMetricFamily if grows else GaugeMetricFamily)(
            f"arqonbus_handler_{name}", text, labels=["handler"]
        )
        for row in rows:
            family.add_metric([row.name], float(getattr(row, name)))
        yield family


def of_registry(labels: Mapping[str, str]) -> Iterator[Metric]:
    """Yield the metrics of the registry, with ``labels`` on each sample."""
    for family in registry.collect():
        family.samples = [
            Sample(sample.name, {**labels, **sample.labels}, sample.value, sample.timestamp, sample.exemplar)
            for sample in family.samples
            # The time at which a counter was created says no more than the start of the node.
            if not sample.name.endswith("_created")
        ]
        yield family


class _Page:
    """Metrics in the form that ``generate_latest`` expects."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def page(families: Iterable[Metric]) -> bytes:
    """Return the metrics as Prometheus text."""
    return generate_latest(_Page(families))
