"""The workloads: each makes scenarios from a contender's dialect and reads the generator's answer.

A result always has `unit_us`: the server's CPU time for one unit of the workload, by the system's accounting. A unit is a
delivery, a message, a request or a registration.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench import build, machine
from bench.contenders import Contender
from bench.scenario import Dialect, Group, Scenario
from bench.servers import Server

Result = dict[str, Any]


class RunFailedError(Exception):
    """A run gave no figures. The text says why."""


@dataclass(frozen=True)
class Options:
    """Duration and size: seconds of one measurement, and whether sizes are reduced."""

    seconds: float = 2.0
    quick: bool = False

    def size(self, full: int, quick: int) -> int:
        """Return the full size, or the small one for a quick run."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Workload:
    """One group of lines in the table."""

    key: str
    title: str
    unit: str
    run: Callable[[Contender, Server, Options], Result | None]
    #: Keys of the contenders that take part; empty: all.
    only: tuple[str, ...] = ()
    #: A fresh server for each run: memory is measured, or the database is a special one.
    fresh: bool = False


def drive(plan: Scenario) -> Result:
    """Run the load generator on its own core. Raises :class:`RunFailedError`."""
    _, core = machine.cores()
    done = subprocess.run(
        [str(build.c_program("load"))],
        input=plan.text(),
        capture_output=True,
        text=True,
        timeout=plan.timeout * 3 + plan.seconds + 60,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    if done.returncode or not done.stdout:
        raise RunFailedError(f"the load generator ended with {done.returncode}: {done.stderr.strip()[:300]}")
    result: Result = json.loads(done.stdout)
    if not result["ok"]:
        raise RunFailedError(result["first_error"] or result["first_close"] or f"{result['failed']} connections failed")
    return result


def figures(raw: Result, units: int, latency: str) -> Result:
    """Return the figures that every workload shows. `latency` names the times of the generator to use."""
    times = raw[latency] or {}
    wall = raw["wall"] or 1e-9
    return {
        "unit_us": raw["server_cpu"] / units * 1e6 if units else None,
        "rate": units / wall,
        "p50": times.get("p50"),
        "p99": times.get("p99"),
        "p999": times.get("p999"),
        "server_share": raw["server_cpu"] / wall,
        "generator_share": raw["generator_cpu"] / wall,
        "frame_bytes": raw["frame_bytes"],
        "missing": raw["missing"] + raw["lost"],
        "behind": raw["behind"],
        "duplicates": raw["duplicates"],
        "errors": raw["errors"],
        "closed": raw["closed_by_server"],
        "problem": raw["first_error"] or raw["first_close"],
    }


def subscribers(d: Dialect, count: int, *, channels: int = 1, base: int = 0, name: str = "members") -> Group:
    """Return `count` members, spread over `channels` channels from number `base` on."""
    return Group(name, count, d.sub_path, d.sub_hello, channels=channels, base=base, subscriber=True)


def publishers(d: Dialect, count: int) -> Group:
    """Return connections that publish and are members of no measured channel."""
    return Group("publishers", count, d.pub_path, d.pub_hello, publish=d.publish)


def scenario(server: Server, d: Dialect, groups: list[Group], options: Options, **more: Any) -> Scenario:
    """Return a run against this server, with the length of the options."""
    return Scenario(server.port, server.pid, d, groups, seconds=options.seconds, **more)


# ---- fan-out ----


def fan_out(members: int, in_flight: int = 8) -> Callable[[Contender, Server, Options], Result | None]:
    """One publisher, ``members`` subscribers of one channel. The next message starts when one is complete."""

    def run(contender: Contender, server: Server, options: Options) -> Result | None:
        d = contender.dialect("plain")
        if d is None:
            return None
        raw = drive(scenario(server, d, [subscribers(d, members), publishers(d, 1)], options, tokens=in_flight))
        return figures(raw, raw["delivered"], "delivery_ms")

    return run


def steady(contender: Contender, server: Server, options: Options) -> Result | None:
    """100 messages a second by the clock to 1,000 members."""
    d = contender.dialect("plain")
    if d is None:
        return None
    raw = drive(scenario(server, d, [subscribers(d, 1000), publishers(d, 1)], options, mode="rate", rate=100.0))
    return figures(raw, raw["delivered"], "delivery_ms")


# ---- one to one ----


def one_to_one(
    kind: str, *, channels: int = 1, in_flight: int = 32
) -> Callable[[Contender, Server, Options], Result | None]:
    """20 publishers, one member per channel. A message is complete when acknowledged, or else when delivered."""

    def run(contender: Contender, server: Server, options: Options) -> Result | None:
        d = contender.dialect(kind)
        if d is None:
            return None
        complete = "ack" if d.acked else "delivery"
        groups = [subscribers(d, channels, channels=channels), publishers(d, 20)]
        raw = drive(scenario(server, d, groups, options, tokens=in_flight, complete=complete))
        units = raw["acked"] if d.acked else raw["delivered"]
        result = figures(raw, units, "ack_ms" if d.acked else "delivery_ms")
        return {**result, "note": ", ".join(filter(None, ["" if d.acked else "no ack", d.note]))}

    return run


def many_channels(contender: Contender, server: Server, options: Options) -> Result | None:
    """500 channels of two members each, 20 publishers, 32 in flight."""
    d = contender.dialect("plain")
    if d is None:
        return None
    groups = [subscribers(d, 1000, channels=500), publishers(d, 20)]
    raw = drive(scenario(server, d, groups, options, tokens=32))
    return figures(raw, raw["delivered"], "delivery_ms")


def mixed(contender: Contender, server: Server, options: Options) -> Result | None:
    """Channels of 300, 30 and 2 members in turn, 20 publishers, 32 in flight. Every tenth operation is a request."""
    d = contender.dialect("plain")
    if d is None:
        return None
    senders = publishers(d, 20)
    if d.request:
        senders.alt, senders.altevery = d.request, 10
    groups = [
        subscribers(d, 300, name="large"),
        subscribers(d, 300, channels=10, base=1, name="middle"),
        subscribers(d, 200, channels=100, base=11, name="small"),
        senders,
    ]
    raw = drive(scenario(server, d, groups, options, tokens=32))
    return {
        **figures(raw, raw["delivered"] + raw["alternate"], "delivery_ms"),
        "note": "" if d.request else "no requests",
    }


# ---- connections ----


def idle(contender: Contender, server: Server, options: Options) -> Result | None:
    """Connections that register, join one channel and stay silent: memory and registrations a second."""
    d = contender.dialect("plain")
    if d is None:
        return None
    count = options.size(5000, 1000)
    # What a first connection makes the server load is no cost of the others.
    drive(scenario(server, d, [subscribers(d, 20, base=1)], Options(0.1), mode="idle", warmup=0.0))
    machine.wait_until_quiet(server.pid)
    raw = drive(scenario(server, d, [subscribers(d, count)], Options(1.0), mode="idle", warmup=0.5, timeout=120.0))
    result = figures(raw, 0, "delivery_ms")
    result.update(
        unit_us=raw["connect_cpu"] / count * 1e6,
        rate=count / raw["connect_seconds"],
        server_share=raw["connect_cpu"] / raw["connect_seconds"],
        kib_per_connection=(raw["rss_after_kib"] - raw["rss_before_kib"]) / count,
        frames_while_connecting=raw["connect_frames"],
        idle_share=raw["server_cpu"] / raw["wall"],
        missing=count - raw["open_at_end"],
        note=f"{count:,} connections",
    )
    return result
