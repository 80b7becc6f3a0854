"""What is written down of connections and their memberships, and what there is, while others change it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from asgiref.sync import sync_to_async

from bus.auth.permissions import SYSTEM
from bus.directory.channels import ChannelRef
from bus.models import Client, Membership
from bus.node import ClientState, running
from bus.protocol.names import Address
from bus.services import nodes, publish
from bus.services.connections import Operation
from bus.services.rooms import update_room
from bus.testing import LiveBus, TestClient
from telemetry.consumers import TelemetryConsumer


@pytest.mark.django_db(transaction=True)
async def test_who_was_taken_over_while_the_layer_was_away_does_not_come_back(live_bus: LiveBus) -> None:
    """The newer connection is at another process, whose notification never came: it stays, and the older one ends for good."""
    taken, lost = await live_bus.connect("taken"), await live_bus.connect("lost")
    node = running()
    assert node is not None

    def elsewhere() -> None:
        nodes.started("other", "elsewhere", 1, "1")
        Client.objects.filter(client_id="taken").update(node="other", connection_id="newer")
        Client.objects.filter(client_id="lost").update(node=None, connection_id="")

    await sync_to_async(elsewhere)()
    for _ in range(2):
        await node.housekeeping.compare_presence()
    assert (await taken.expect(type="error"))["error"]["code"] == "TAKEN_OVER"
    assert (await lost.expect(type="error"))["error"]["code"] == "RESTARTING"
    assert (taken.close_code, lost.close_code) == (4410, 4012)


@pytest.mark.django_db(transaction=True)
async def test_a_room_that_becomes_private_while_somebody_joins_keeps_nobody(
    live_bus: LiveBus, fresh_room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change was told of, and looked at, when the joiner was no member yet and had been let in already."""
    joiner = await live_bus.connect("joiner", room=f"{fresh_room}:hall")
    node = running()
    assert node is not None
    join, address = node.presence_tables.join, Address(f"{fresh_room}-2", "plans")
    await sync_to_async(publish)(str(address), message="hidden")

    def make_private() -> None:
        update_room(SYSTEM, address.room, {"private": True}, door="command")

    async def slowly(client: ClientState, ref: ChannelRef) -> int | None:
        participants = await join(client, ref)
        monkeypatch.undo()
        await sync_to_async(make_private)()
        await node.rights.catch_up()
        assert node.channels.known(address) is None
        return participants

    monkeypatch.setattr(node.presence_tables, "join", slowly)
    await joiner.join(str(address))
    told = await joiner.expect(event="unsubscribed")
    assert (told["channel"], told["payload"]["reason"]) == ("plans", "REVOKED")


@pytest.mark.django_db(transaction=True)
async def test_a_telemetry_socket_that_registered_stays(live_bus: LiveBus) -> None:
    """It is in none of the lists of clients, so its absence from them is no loss."""
    await live_bus.connect("somebody")
    scope = {
        "type": "websocket", "path": "/telemetry/", "query_string": b"", "headers": [(b"host", b"testserver")],
        "client": ("127.0.0.1", 0), "subprotocols": [],
    }  # fmt: skip
    probe = TestClient(TelemetryConsumer.as_asgi(), scope)
    await probe.expect("telemetry_connected")
    await probe.send({"client_id": "probe", "client_type": "service"})
    await probe.expect("system", "registered")
    node = running()
    assert node is not None
    for _ in range(3):
        await node.housekeeping.compare_presence()
    await probe.send({"id": "t-1", "eventType": "still_here", "payload": {}})
    await probe.expect("telemetry_ack", request_id="t-1")
    assert probe.close_code is None
    await probe.close()


@pytest.mark.django_db(transaction=True)
async def test_who_was_told_that_a_join_failed_is_no_member(
    live_bus: LiveBus, fresh_room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database took it all the same, later than the client was ready to wait."""
    joiner = await live_bus.connect("joiner", room=f"{fresh_room}:hall")
    await joiner.join(f"{fresh_room}:desk")
    await joiner.command("leave_channel", channel=f"{fresh_room}:desk")
    node = running()
    assert node is not None
    begun, go_on, work = threading.Event(), threading.Event(), node.presence_tables._work

    def slowly(operations: Sequence[Operation]) -> list[Any]:
        begun.set()
        assert go_on.wait(20)
        return work(operations)

    monkeypatch.setattr(node.presence_tables, "_work", slowly)
    # The time that a join is waited for is three seconds longer.
    monkeypatch.setattr(node.runtime, "settings", msgspec.structs.replace(node.runtime.settings, store_timeout=-2.9))
    assert (await joiner.refused("join_channel", channel=f"{fresh_room}:desk"))["code"] == "UNAVAILABLE"
    assert begun.is_set()
    monkeypatch.undo()
    go_on.set()
    assert (await joiner.command("channel_info", channel=f"{fresh_room}:hall"))["participant_count"] == 1
    # A join is written behind what was queued before it, so nothing of the failed one is still to come.
    await joiner.join(f"{fresh_room}:shelf")
    rows = Membership.objects.filter(client__client_id="joiner").values_list("channel__name", flat=True)
    assert sorted(await node.runtime.run(list, rows)) == ["hall", "shelf"]
