"""The list of workloads in the table's order, and the figures that the documentation promises."""

from __future__ import annotations

from bench.logs import history_database, history_memory, recovery
from bench.streams import streams
from bench.work import work
from bench.workloads import Workload, fan_out, idle, many_channels, mixed, one_to_one, steady


def all_workloads() -> list[Workload]:
    """Return every workload in the table's order."""
    ours = ("bus-daphne", "bus-daphne-python", "bus-uvicorn")
    with_log = (*ours, "centrifuge")
    fast = ("bus-daphne", "bus-daphne-python", "centrifuge", "nats", "floor")
    return [
        Workload("fanout", "fan-out 1→1,000, 8 in flight", "delivery", fan_out(1000)),
        Workload("fanout-single", "fan-out 1→1,000, 1 in flight: nothing to join", "delivery", fan_out(1000, 1)),
        Workload("steady", "fan-out 1→1,000, steady 100 messages/s", "delivery", steady),
        Workload("durable", "1→1 acked and durable, 20 publishers, 32 in flight", "message", one_to_one("durable")),
        Workload(
            "durable-wide",
            "1→1 acked and durable, 20 publishers with 32 in flight each, 20 channels",
            "message",
            one_to_one("durable", channels=20, in_flight=640),
        ),
        Workload(
            "ephemeral",
            "1→1 acked, ephemeral, 20 publishers, 32 in flight",
            "message",
            one_to_one("ephemeral"),
        ),
        Workload(
            "streams",
            "streamed messages: acked parts, 20 owners of one stream each, 32 in flight",
            "part",
            streams,
            ours,
            fresh=True,
        ),
        Workload(
            "work",
            "leased work: 32 workers claim one job each, end it, and wait for the answer",
            "job",
            work,
            (*ours, "bus-postgres", "nats", "celery"),
            fresh=True,
        ),
        Workload("channels", "500 channels × 2 members, 20 publishers, 32 in flight", "delivery", many_channels),
        Workload("mixed", "mixed: channels of 300, 30 and 2, each tenth operation a request", "operation", mixed),
        Workload("history-memory", "history, last 50, from memory", "request", history_memory, with_log),
        Workload(
            "history-database",
            "history, 50 from a database of a million rows",
            "request",
            history_database,
            ours,
            fresh=True,
        ),
        Workload("recovery", "recovery of 500 messages × 200 clients at once", "message", recovery, with_log),
        Workload("idle", "5,000 idle registered connections", "registration", idle, fresh=True),
        Workload("members-10", "cost per delivery: 10 members", "delivery", fan_out(10), fast),
        Workload("members-100", "cost per delivery: 100 members", "delivery", fan_out(100), fast),
        Workload("members-1000", "cost per delivery: 1,000 members", "delivery", fan_out(1000), fast),
        Workload("members-5000", "cost per delivery: 5,000 members", "delivery", fan_out(5000), fast),
    ]
