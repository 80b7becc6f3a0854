"""The telemetry socket and the streams of ``integriguard``, over real sockets."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import httpx
import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer

STREAM = "integriguard:telemetry-stream"
DASHBOARD = "integriguard:dashboard-events"


async def _telemetry(wire: Connect, url: str, **options: Any) -> tuple[WireClient, dict[str, Any]]:
    """A telemetry socket and its first frame."""
    client = await wire(url, register=False, **options)
    await client.expect()
    return client, client.frames[0]


def _of(event_type: str, **payload: Any) -> Any:
    """Whether a frame is of that event type and has those payload entries."""

    def matches(frame: dict[str, Any]) -> bool:
        inner = frame.get("payload") or {}
        return frame.get("eventType") == event_type and all(inner.get(key) == value for key, value in payload.items())

    return matches


@pytest.fixture
def mark() -> str:
    """An event type that no other test uses."""
    return f"test-{secrets.token_hex(4)}"


async def test_valid_telemetry_is_acked_and_reaches_members_and_telemetry_sockets(
    shared_server: BusServer, wire: Connect, mark: str
) -> None:
    sender, first = await _telemetry(wire, shared_server.telemetry_url)
    other, _ = await _telemetry(wire, shared_server.telemetry_url)
    member = await wire(shared_server, room=STREAM)
    outsider = await wire(shared_server)
    assert first["type"] == "telemetry_connected"
    assert first["payload"]["receiving"] is True

    await sender.send({"eventType": mark, "payload": {"load": 0.25}, "source": "probe", "id": "m-1"})
    ack = await sender.expect(type="telemetry_ack")
    assert (ack["request_id"], ack["eventType"], ack["room"], ack["channel"]) == (
        "m-1",
        mark,
        "integriguard",
        "telemetry-stream",
    )
    for receiver in (other, member):
        frame = await receiver.expect(type="telemetry", predicate=_of(mark))
        assert frame["payload"] == {"load": 0.25}
        assert frame["seq"] == ack["seq"]
        assert frame["from"] == first["payload"]["client_id"]
        assert frame["source"] == "probe"
    await outsider.ping()
    assert not [
        frame for frame in [*outsider.frames, *sender.frames] if frame["type"] == "telemetry" and _of(mark)(frame)
    ]


async def test_invalid_telemetry_is_one_error_with_every_fault_and_reaches_nobody(
    shared_server: BusServer, wire: Connect, mark: str
) -> None:
    sender, _ = await _telemetry(wire, shared_server.telemetry_url)
    member = await wire(shared_server, room=STREAM)
    await sender.send({"id": "bad", "eventType": "", "payload": mark, "timestamp": "noon", "source": 7})
    error = await sender.expect(type="error")
    assert error["request_id"] == "bad"
    assert error["error"]["code"] == "VALIDATION_ERROR"
    assert {fault["field"] for fault in error["error"]["details"]} == {"eventType", "payload", "timestamp", "source"}
    await sender.send("not json")
    assert (await sender.expect(type="error"))["error"]["code"] == "INVALID_JSON"
    # The connection is good for what comes next, which is all that anybody gets.
    await sender.send({"event_type": mark, "payload": {"n": 2}})
    await sender.expect(type="telemetry_ack")
    await member.expect(type="telemetry", predicate=_of(mark, n=2))
    assert not any(frame.get("payload") == mark for frame in member.frames)


@pytest.mark.parametrize("dialect", ["v0", "v1"])
async def test_telemetry_on_the_bus_socket_is_treated_the_same(
    shared_server: BusServer, wire: Connect, mark: str, dialect: Any
) -> None:
    watcher, _ = await _telemetry(wire, shared_server.telemetry_url)
    sender = await wire(shared_server, dialect=dialect)
    frame = sender.message_frame("arq_t1", type="telemetry", payload={"n": 1}, eventType=mark)
    await sender.send(frame)
    ack = await sender.expect(type="telemetry_ack")
    seen = await watcher.expect(type="telemetry", predicate=_of(mark))
    assert (seen["from"], seen["seq"], seen["id"]) == (sender.client_id, ack["seq"], "arq_t1")
    # Sent again with the same id it is the same event.
    await sender.send(frame)
    again = await sender.expect(type="telemetry_ack")
    assert (again["seq"], again["duplicate"]) == (ack["seq"], True)
    await sender.send(sender.message_frame("arq_t2", type="telemetry", payload={"n": 2}))
    error = await sender.expect(type="error", request_id="arq_t2")
    assert [fault["field"] for fault in error["error"]["details"]] == ["eventType"]


@pytest.mark.embedded
async def test_an_id_cannot_be_taken_on_the_telemetry_socket(
    shared_server: BusServer, wire: Connect, mark: str
) -> None:
    victim = await wire(shared_server, client_id=f"victim-{mark}")
    sender, first = await _telemetry(wire, shared_server.telemetry_url)
    await sender.send({"client_id": victim.client_id, "client_type": "service"})
    registered = await sender.expect(event="registered")
    assert registered["payload"]["client_id"] == first["payload"]["client_id"] != victim.client_id
    watcher, _ = await _telemetry(wire, shared_server.telemetry_url)
    await sender.send({"eventType": mark, "payload": {}, "from": victim.client_id})
    frame = await watcher.expect(type="telemetry", predicate=_of(mark))
    assert frame["from"] == first["payload"]["client_id"]


@pytest.mark.embedded
async def test_telemetry_sockets_are_no_clients_of_the_bus(shared_server: BusServer, wire: Connect) -> None:
    _, first = await _telemetry(wire, shared_server.telemetry_url)
    client = await wire(shared_server)
    status = await client.request("status", limit=500)
    assert first["payload"]["client_id"] not in {row["client_id"] for row in status["clients"]}


async def test_the_servers_own_events_come_on_the_stream(
    start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    server = start_server("runbus", env={"ARQONBUS_TELEMETRY_INTERVAL": "0.2"})
    token = server.create_token("boss", admin=True)
    watcher, _ = await _telemetry(wire, server.telemetry_url)
    admin = await wire(server, client_id="boss", client_type="human", screen_name="Boss", token=token)
    connected = await watcher.expect(type="telemetry", predicate=_of("client_connected", client_id="boss"))
    assert connected["from"] == "arqonbus_server"
    assert connected["payload"]["client_type"] == "human"
    assert (connected["payload"]["room"], connected["payload"]["channel"]) == ("science", "general")
    before = (await admin.request("status"))["stats"]["total_messages"]

    await admin.request("create_channel", room=fresh_room, channel="one")
    created = await watcher.expect(predicate=_of("channel_created", room=fresh_room, channel="one"))
    assert created["payload"]["created_by"] == "boss"
    await admin.request("delete_channel", room=fresh_room, channel="one")
    await watcher.expect(predicate=_of("channel_deleted", room=fresh_room, channel="one"))
    stats = await watcher.expect(predicate=_of("server_stats", active_connections=1))
    assert stats["payload"]["process"]["clients"] == 1
    await admin.close()
    gone = await watcher.expect(predicate=_of("client_disconnected", client_id="boss"))
    assert gone["payload"]["code"] == 1000
    # None of these count as messages that somebody sent.
    late = await wire(server)
    assert (await late.request("status"))["stats"]["total_messages"] == before


@pytest.mark.cluster
async def test_no_dashboard_keeps_ghosts_of_a_process_that_stopped_or_died(
    start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    quick = {"ARQONBUS_NODE_HEARTBEAT": "0.3", "ARQONBUS_NODE_TIMEOUT": "0.9"}
    there, leaving = await asyncio.gather(*(asyncio.to_thread(start_server, env=quick) for _ in range(2)))
    token = there.create_token("maker", admin=True)
    async with httpx.AsyncClient(base_url=there.http_url, headers={"Authorization": f"Bearer {token}"}) as caller:
        made = await caller.post("/api/v1/rooms", json={"room": fresh_room, "private": True})
        assert made.status_code == 201
    watcher = await wire(there, room=STREAM)
    for ending, code in ((leaving.terminate, 4012), (leaving.kill, 1006)):
        if not leaving.alive:
            await asyncio.to_thread(leaving.start)
        clients = [await wire(leaving, client_id=f"of-{code}-{number}") for number in range(3)]
        secret = await wire(leaving, token=token, room=f"{fresh_room}:hidden")
        await asyncio.to_thread(ending)
        for client in clients:
            gone = await watcher.expect(predicate=_of("client_disconnected", client_id=client.client_id))
            assert gone["payload"]["code"] == code
        assert secret.client_id not in str(watcher.frames)


async def test_activity_goes_to_the_dashboards_once_a_second_and_without_the_text(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    dashboard = await wire(shared_server, room=DASHBOARD)
    machine = await wire(shared_server, room=f"{fresh_room}:a", client_type="system")
    agent = await wire(shared_server, room=f"{fresh_room}:a", client_type="ai-agent", screen_name="Ada")
    for number in range(20):
        await machine.publish(f"secret {number}")
        await agent.publish(f"secret {number}")
    await agent.publish("secret thought", type="thought", ack=True)

    note = await dashboard.expect(predicate=_of("agent_activity", client_id=agent.client_id, activity="event"))
    assert note["type"] == "event"
    assert note["from"] == "arqonbus_server"
    payload = dict(note["payload"])
    assert payload.pop("timestamp").endswith("Z")
    assert payload == {
        "eventType": "agent_activity",
        "client_id": agent.client_id,
        "client_type": "ai-agent",
        "screen_name": "Ada",
        "activity": "event",
        "room": fresh_room,
        "channel": "a",
    }
    await dashboard.expect(predicate=_of("agent_activity", client_id=agent.client_id, activity="thought"))
    mine = [frame for frame in dashboard.frames if _of("agent_activity", client_id=agent.client_id)(frame)]
    assert [frame["payload"]["activity"] for frame in mine].count("thought") == 1
    # All of the twenty were sent within a second or two, whatever the machine was doing meanwhile.
    assert [frame["payload"]["activity"] for frame in mine].count("event") < 20
    assert "secret" not in json.dumps(dashboard.frames)
    assert not any(_of("agent_activity", client_id=machine.client_id)(frame) for frame in dashboard.frames)


async def test_whose_inbox_a_private_message_went_to_is_not_told(shared_server: BusServer, wire: Connect) -> None:
    dashboard = await wire(shared_server, room=DASHBOARD)
    target, agent = await wire(shared_server), await wire(shared_server)
    await agent.publish("psst", type="private", to=[target.client_id], ack=True)
    note = await dashboard.expect(predicate=_of("agent_activity", client_id=agent.client_id, activity="private"))
    assert (note["payload"]["room"], note["payload"]["channel"]) == ("pm", "*")
    assert target.client_id not in json.dumps(note)


@pytest.mark.embedded
async def test_outside_of_debug_strangers_are_refused_and_the_stream_needs_a_grant(
    start_server: StartServer, wire: Connect, mark: str
) -> None:
    server = start_server("runbus", env={"DEBUG": "0", "INSECURE_HTTP": "1"})
    stranger, _ = await _telemetry(wire, server.telemetry_url)
    await stranger.send({"eventType": mark, "payload": {}})
    assert (await stranger.expect(type="error"))["error"]["code"] == "UNAUTHENTICATED"
    assert await stranger.wait_closed() == 4401

    token = server.create_token("probe")
    probe, first = await _telemetry(wire, server.telemetry_url, headers={"Authorization": f"Bearer {token}"})
    assert first["payload"]["receiving"] is False
    admin = server.create_token("boss", admin=True)
    boss, welcome = await _telemetry(wire, server.telemetry_url, subprotocols=["arqonbus.v1", f"bearer.{admin}"])
    assert welcome["payload"]["receiving"] is True
    # A token is good in the first frame too.
    late, before = await _telemetry(wire, server.telemetry_url)
    assert before["payload"]["receiving"] is False
    await late.send({"type": "register", "token": admin})
    registered = await late.expect(event="registered")
    assert (registered["payload"]["role"], registered["payload"]["receiving"]) == ("admin", True)
    await probe.send({"eventType": mark, "payload": {"n": 1}})
    await probe.expect(type="telemetry_ack")
    for receiver in (boss, late):
        await receiver.expect(type="telemetry", predicate=_of(mark, n=1))
    await boss.send({"eventType": mark, "payload": {"n": 2}})
    await boss.expect(type="telemetry_ack")
    await probe.send({"eventType": mark, "payload": {"n": 3}})
    await probe.expect(type="telemetry_ack")
    assert not [frame for frame in probe.frames if frame["type"] == "telemetry"]
    # Who may send telemetry may not write anything else to its channel.
    client = await wire(server, token=token)
    with pytest.raises(WireError, match=r"FORBIDDEN|CHANNEL_NOT_FOUND"):
        await client.publish("spoof", room=STREAM, ack=True)


@pytest.mark.embedded
async def test_strangers_may_send_telemetry_where_the_setting_lets_them(
    start_server: StartServer, wire: Connect, mark: str
) -> None:
    server = start_server("runbus", env={"DEBUG": "0", "INSECURE_HTTP": "1", "ARQONBUS_TELEMETRY_ANONYMOUS": "1"})
    probe, first = await _telemetry(wire, server.telemetry_url)
    assert first["payload"]["receiving"] is False
    await probe.send({"eventType": mark, "payload": {}})
    await probe.expect(type="telemetry_ack")


@pytest.mark.cluster
async def test_telemetry_reaches_the_sockets_of_every_process(
    start_server: StartServer, wire: Connect, mark: str
) -> None:
    one, two = start_server("runbus"), start_server("daphne")
    here, _ = await _telemetry(wire, one.telemetry_url)
    there, _ = await _telemetry(wire, two.telemetry_url)
    member = await wire(two, room=STREAM)
    for number in range(50):
        await here.send({"eventType": mark, "payload": {"n": number}})
    for receiver in (there, member):
        for number in range(50):
            await receiver.expect(type="telemetry", predicate=_of(mark, n=number))
        numbers = [frame["payload"]["n"] for frame in receiver.frames if _of(mark)(frame)]
        assert numbers == list(range(50))


@pytest.mark.embedded
async def test_a_path_without_a_socket_is_refused_in_the_handshake(
    shared_server: BusServer,
) -> None:
    from tests.harness.client import refused_status

    assert await refused_status(shared_server.url + "nowhere/") == 403
    assert "Traceback" not in shared_server.log()


async def test_the_stream_ends_when_the_right_to_it_is_withdrawn(
    start_server: StartServer, wire: Connect, mark: str
) -> None:
    server = start_server("daphne")
    listener, first = await _telemetry(wire, server.telemetry_url)
    assert first["payload"]["receiving"] is True
    ban = "subject='anonymous', action='*', pattern='integriguard:*', allow=False"
    server.manage("shell", "--command", f"from bus.models import Grant; Grant.objects.create({ban})")
    told = await listener.expect(event="unsubscribed")
    assert (told["room"], told["channel"], told["payload"]["reason"]) == ("integriguard", "telemetry-stream", "REVOKED")
    await listener.send({"eventType": mark, "payload": {}})
    assert (await listener.expect(type="error"))["error"]["code"] == "FORBIDDEN"


@pytest.mark.embedded
async def test_who_only_listens_to_telemetry_is_not_asked_to_register(start_server: StartServer, wire: Connect) -> None:
    server = start_server("daphne", env={"ARQONBUS_REGISTRATION_DEADLINE": "0.5", "ARQONBUS_TELEMETRY_INTERVAL": "0.2"})
    listener, _ = await _telemetry(wire, server.telemetry_url)
    silent = await wire(server, register=False)
    assert await silent.wait_closed() == 4401
    for _ in range(5):
        await listener.expect(predicate=_of("server_stats"))
    assert not listener.closed
