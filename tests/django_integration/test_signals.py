"""The signals of `bus.signals`, as receivers in a project hear them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.dispatch import Signal

from bus import signals
from bus.services import publish
from bus.testing import LiveBus


class Heard:
    """What the signals said."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def of(self, name: str) -> list[dict[str, Any]]:
        """The arguments of one signal's calls."""
        return [arguments for called, arguments in self.calls if called == name]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Receivers on every signal."""
    notes = Heard()
    connected: list[tuple[Signal, Any]] = []
    for name, signal in vars(signals).items():
        if isinstance(signal, Signal):

            def receive(sender: Any, signal: Signal, name: str = name, **arguments: Any) -> None:
                notes.calls.append((name, arguments))

            signal.connect(receive)
            connected.append((signal, receive))
    yield notes
    for signal, receive in connected:
        signal.disconnect(receive)


async def test_connections_and_what_clients_do_are_told(live_bus: LiveBus, heard: Heard, fresh_room: str) -> None:
    client = await live_bus.connect("alice", room=f"{fresh_room}:talk", client_type="human", screen_name="Alice")
    (connected,) = heard.of("client_connected")
    assert (connected["room"], connected["channel"]) == (fresh_room, "talk")
    assert connected["client"]["client_id"] == "alice"
    assert connected["client"]["screen_name"] == "Alice"
    await client.publish(f"{fresh_room}:talk", "the text is not told")
    activities = heard.of("client_active")
    assert ("event", fresh_room) in [(row["activity"], row["room"]) for row in activities]
    assert "the text is not told" not in str([{k: v for k, v in row.items() if k != "client"} for row in activities])
    await client.close()
    (disconnected,) = heard.of("client_disconnected")
    assert (disconnected["client"]["client_id"], disconnected["code"]) == ("alice", 1000)


async def test_committed_messages_are_told_with_their_place(live_bus: LiveBus, heard: Heard, fresh_room: str) -> None:
    client = await live_bus.connect("alice")
    await client.publish(f"{fresh_room}:talk", "from a socket")
    await sync_to_async(publish)(f"{fresh_room}:talk", message="from Django code")
    # The bus tells its own stream of the client that came, too.
    told = [row for call in heard.of("message_published") for row in call["messages"] if row[0].room == fresh_room]
    assert [(str(address), seq) for address, seq, _ in told] == [(f"{fresh_room}:talk", 1), (f"{fresh_room}:talk", 2)]
    assert b"from Django code" in told[1][2]


async def test_channels_that_come_and_go_are_told(live_bus: LiveBus, heard: Heard, fresh_room: str) -> None:
    create = sync_to_async(get_user_model().objects.create_superuser)
    admin = await live_bus.connect("boss", user=await create("boss", password="x"))
    await admin.command("create_channel", room=fresh_room, channel="made")
    assert (fresh_room, "made") in [(row["room"], row["channel"]) for row in heard.of("channel_created")]
    await admin.command("delete_channel", room=fresh_room, channel="made")
    assert (fresh_room, "made") in [(row["room"], row["channel"]) for row in heard.of("channel_deleted")]


async def test_a_receiver_that_fails_costs_nobody_else_anything(live_bus: LiveBus, fresh_room: str) -> None:
    def fails(**_: Any) -> None:
        raise RuntimeError("a bug in a receiver")

    signals.message_published.connect(fails)
    signals.client_connected.connect(fails)
    try:
        reader = await live_bus.connect("reader", room=f"{fresh_room}:talk")
        writer = await live_bus.connect("writer")
        await writer.publish(f"{fresh_room}:talk", "still delivered")
        await reader.expect("event", message="still delivered")
        await writer.publish(f"{fresh_room}:talk", "and again")
        await reader.expect("event", message="and again")
        await reader.expect_nothing("error")
        await writer.expect_nothing("error")
    finally:
        signals.message_published.disconnect(fails)
        signals.client_connected.disconnect(fails)
