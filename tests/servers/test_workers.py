"""Several processes on the same ports (``runbus --workers``)."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Connect, StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until


def _workers(server: BusServer) -> set[int]:
    return {child.pid for child in psutil.Process(server.pid).children()}


def _nodes(server: BusServer) -> set[str]:
    """The processes that answer; a few questions, since each goes to any of them."""
    return {server.get_json("/version")["node"] for _ in range(8)}


def _by_node(server: BusServer, name: str, **labels: str) -> dict[str, float]:
    return {
        sample.labels["node"]: sample.value
        for family in text_string_to_metric_families(server.get("/metrics/cluster")[1].decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


@pytest.mark.cluster
async def test_workers_share_ports_and_figures_come_back_when_they_die_and_restart_one_by_one(
    start_server: StartServer, wire: Connect
) -> None:
    server = start_server("runbus", arguments=("--workers", "2"))
    wait_until(lambda: len(_nodes(server)) == 2, "both workers answer")
    before = _workers(server)
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: len(_workers(server)) == 2 and min(before) not in _workers(server), "a new one takes its place")
    assert "event=worker_ended" in server.log()
    wait_until(lambda: len(_nodes(server)) == 2, "it answers")

    clients = [await wire(server) for _ in range(6)]
    wait_until(lambda: sum(_by_node(server, "arqonbus_clients").values()) == 6, "one page shows the clients of both")
    bad = {"name": "arqonbus_errors_total", "code": "INVALID_JSON"}
    wait_until(lambda: list(_by_node(server, **bad).values()) == [0.0, 0.0], "and their errors, before there are any")
    await clients[0].send("rubbish")
    wait_until(lambda: sorted(_by_node(server, **bad).values()) == [0.0, 1.0], "and when there are")

    # SIGHUP: a worker goes, its clients are told to come back, and only when a new one serves the next one goes.
    server.process.send_signal(signal.SIGHUP)
    for client in clients:
        assert await client.wait_closed(30) == 4012
    wait_until(lambda: len(_workers(server)) == 2 and not _workers(server) & before, "all workers are new")
    wait_until(lambda: len(_nodes(server)) == 2, "the new workers answer")
    assert await asyncio.to_thread(server.terminate) == 0
