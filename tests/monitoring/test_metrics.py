"""``/metrics``, ``/metrics/cluster`` and the other pages of operations, on real servers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bus._speed import PATH
from tests.conftest import Connect, StartServer
from tests.harness.client import WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until


def _samples(server: BusServer, path: str = "/metrics") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    status, body = server.get(path)
    assert status == 200
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "node"}
            found[(sample.name, tuple(sorted(labels.items())))] = sample.value
    return found


class Meter:
    """The change of a server's figures since it was made."""

    def __init__(self, server: BusServer) -> None:
        self._server = server
        self._before = _samples(server)

    def __call__(self, name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return _samples(self._server).get(key, 0.0) - self._before.get(key, 0.0)


async def test_what_clients_do_is_counted(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    meter = Meter(shared_server)
    sender = await wire(shared_server, room=f"{fresh_room}:a")
    members = [await wire(shared_server, room=f"{fresh_room}:a") for _ in range(3)]
    for number in range(10):
        await sender.publish(f"text {number}", ack=True)
    for member in members:
        await member.wait_seq(f"{fresh_room}:a", 10)
    with pytest.raises(WireError):
        await sender.request("create_channel", room=fresh_room, channel="b")
    await sender.send("rubbish")
    await sender.expect(type="error")

    assert meter("arqonbus_connections", socket="bus") == 4
    assert meter("arqonbus_connections_opened_total", socket="bus") == 4
    assert meter("arqonbus_clients") == 4
    assert meter("arqonbus_frames_received_total") == 4 + 10 + 2
    assert meter("arqonbus_received_bytes_total") > 10 * len('{"message": "text 0"}')
    # The server's own telemetry is published too.
    assert meter("arqonbus_messages_published_total") >= 10
    assert meter("arqonbus_delivered_total") >= 30
    assert meter("arqonbus_delivered_bytes_total") > 30 * len("text 0")
    # How long clients wait: what the server tells of itself is no part of that, but of the log's transactions.
    assert meter("arqonbus_publish_seconds_count") == 10
    assert meter("arqonbus_publish_seconds_bucket", le="+Inf") == 10
    assert meter("arqonbus_publish_seconds_sum") > 0
    # Two looks, between which the server may have told of itself.
    assert 1 <= meter("arqonbus_commit_seconds_count") <= meter("arqonbus_commit_entries_sum")
    assert meter("arqonbus_commit_entries_sum") > 10
    assert meter("arqonbus_errors_total", code="FORBIDDEN") == 1
    assert meter("arqonbus_errors_total", code="INVALID_JSON") == 1
    assert meter("arqonbus_telemetry_events_total", origin="server") >= 4

    await members[0].close()
    wait_until(lambda: meter("arqonbus_connections", socket="bus") == 3, "the closed connection is counted")
    assert meter("arqonbus_disconnects_total", code="1000") == 1


async def test_the_page_shows_the_state_of_the_parts_and_of_the_cluster(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    client = await wire(shared_server, room=f"{fresh_room}:a")
    found = {name: value for (name, labels), value in _samples(shared_server).items() if not labels}
    assert found["arqonbus_layer_connected"] == found["arqonbus_store_available"] == 1
    assert found["arqonbus_log_queue"] == 0
    assert found["arqonbus_uptime_seconds"] > 0
    assert found["arqonbus_streams"] >= 1
    stats = (await client.request("status"))["stats"]
    assert found["arqonbus_cluster_clients"] == stats["active_connections"]
    assert found["arqonbus_cluster_rooms"] == stats["active_rooms"]
    assert found["arqonbus_cluster_channels"] == stats["active_channels"]
    assert found["arqonbus_cluster_nodes"] == 1


def test_what_alerts_count_is_there_before_it_happens(shared_server: BusServer) -> None:
    # The increase of a series that begins with 1 is 0: the first of them would wake nobody.
    found = _samples(shared_server)
    assert ("arqonbus_errors_total", (("code", "INTERNAL_ERROR"),)) in found
    assert ("arqonbus_disconnects_total", (("code", "4013"),)) in found


def test_every_sample_of_a_process_names_its_node(shared_server: BusServer) -> None:
    node = shared_server.get_json("/version")["node"]
    text = shared_server.get("/metrics")[1].decode()
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("arqonbus_cluster_"):
            assert {sample.labels.get("node") for sample in family.samples} <= {node}


def test_health_ready_and_version_answer(shared_server: BusServer) -> None:
    assert shared_server.get_json("/health") == {"status": "ok"}
    assert shared_server.get_json("/ready") == {"status": "ready", "database": True, "layer": True}
    version: dict[str, Any] = shared_server.get_json("/version")
    assert (version["name"], version["protocol"]) == ("arqonbus", "1.0")


def test_a_process_says_which_path_its_messages_take(shared_server: BusServer) -> None:
    # The server runs with the environment of the tests.
    assert shared_server.get_json("/version")["path"] == PATH
    assert _samples(shared_server)["arqonbus_compiled", ()] == (PATH == "compiled")


@pytest.mark.embedded
def test_without_its_tables_a_process_lives_is_not_ready_and_still_shows_its_figures(
    start_server: StartServer, tmp_path: Any
) -> None:
    server = start_server("daphne", env={"DATABASE_URL": f"sqlite:///{tmp_path}/empty.sqlite3"}, wait=False)

    def answered() -> bool:
        try:
            return server.get("/health")[0] == 200
        except OSError:
            return False

    wait_until(answered, "the process answers")
    status, body = server.get("/ready")
    assert (status, json.loads(body)["database"]) == (503, False)
    status, body = server.get("/metrics")
    assert status == 200
    assert b"arqonbus_uptime_seconds" in body
    assert b"arqonbus_cluster_clients" not in body
    lines = [line for line in server.log().splitlines() if "event=not_started" in line]
    assert len(lines) == 1
    assert "manage.py migrate" in lines[0]
    assert "Traceback" not in server.log()
