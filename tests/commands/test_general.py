"""Tests of the commands status, ping, help and history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer

Name = Callable[[str], str]


async def test_ping_answers_pong_and_echoes(shared_server: BusServer, wire: Connect, dialect: Dialect) -> None:
    client = await wire(shared_server, dialect=dialect)
    answer = await client.command("ping", echo={"any": ["json", 1]})
    assert (answer["message"], answer["result"]["pong"]) == ("pong", True)
    assert answer["result"]["echo"] == {"any": ["json", 1]}
    assert "echo" not in (await client.request("ping"))


async def asked(client: WireClient, command: str) -> Any:
    """The answer of `help` for one command, whose parameter has the name of an argument of `request`."""
    await client.send(client.command_frame("help", {"command": command}, f"arq_help_{command}"))
    return (await client.expect("command_response", request_id=f"arq_help_{command}")).get("result")


async def test_help_tells_of_every_command_from_the_registry(
    shared_server: BusServer, wire: Connect, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect)
    commands = {row["command"]: row for row in (await client.request("help"))["commands"]}
    assert set(commands) >= {
        "status", "create_channel", "delete_channel", "join_channel", "leave_channel",
        "list_channels", "channel_info", "ping", "history", "help",
    }  # fmt: skip
    assert commands["create_channel"]["who"] == "admin"
    assert "CHANNEL_EXISTS" in commands["create_channel"]["errors"]
    assert commands["history"]["parameters"]["limit"]["default"] == 50
    assert "$ref" not in str(commands)
    (one,) = (await asked(client, "ping"))["commands"]
    assert one == commands["ping"]
    client_answer = await client.command("ping", no_such_parameter=1)
    assert client_answer["error"]["code"] == "VALIDATION_ERROR"


async def test_status_tells_of_the_server_its_figures_and_who_is_there(
    shared_server: BusServer, wire: Connect, fresh_room: str, name: Name, admin_token: str, dialect: Dialect
) -> None:
    before = datetime.now(UTC)
    client = await wire(
        shared_server,
        dialect=dialect,
        client_id=name("aa"),
        client_type="ai-agent",
        room=fresh_room,
        channel="a",
        screen_name="AA",
        personality={"mood": "calm"},
    )
    await client.join(fresh_room, "b")
    first = await client.request("status", limit=500)
    server = first["server"]
    assert server["protocol"] == "1.0"
    assert server["version"]
    assert server["uptime_seconds"] > 0
    assert datetime.fromisoformat(server["started_at"]) < before
    stats = first["stats"]
    assert {row["channel"]: row["participants"] for row in first["channels"] if row["room"] == fresh_room} == {
        "a": 1,
        "b": 1,
    }
    me = next(row for row in first["clients"] if row["client_id"] == name("aa"))
    assert (me["client_type"], me["screen_name"], me["avatar"]) == ("ai-agent", "AA", None)
    assert sorted(me["channels"]) == [f"{fresh_room}:a", f"{fresh_room}:b"]
    assert "personality" not in me
    assert datetime.fromisoformat(me["connected_at"]) >= before.replace(microsecond=0)
    await client.publish("counts", channel="a", ack=True)
    admin = await wire(shared_server, dialect=dialect, token=admin_token)
    second = await admin.request("status", limit=500)
    assert second["stats"]["total_messages"] >= stats["total_messages"] + 1
    assert second["stats"]["total_connections"] >= stats["total_connections"] + 1
    for key in ("active_connections", "active_rooms", "active_channels"):
        assert second["stats"][key] >= 1
    seen = next(row for row in second["clients"] if row["client_id"] == name("aa"))
    assert seen["personality"] == {"mood": "calm"}


async def test_status_comes_in_pages(
    shared_server: BusServer, wire: Connect, fresh_room: str, name: Name, dialect: Dialect
) -> None:
    clients = [await wire(shared_server, client_id=name(f"p{n}"), room=fresh_room, channel=f"c{n}") for n in range(5)]
    asker = await wire(shared_server, dialect=dialect)
    seen: list[str] = []
    channels: list[str] = []
    after: str | None = ""
    after_channel: str | None = ""
    while after is not None or after_channel is not None:
        page = await asker.request("status", limit=3, after=after or "", after_channel=after_channel or "")
        assert len(page["clients"]) <= 3
        assert len(page["channels"]) <= 3
        if after is not None:
            seen += [row["client_id"] for row in page["clients"]]
            after = page["next"]
        if after_channel is not None:
            channels += [f"{row['room']}:{row['channel']}" for row in page["channels"]]
            after_channel = page["next_channel"]
    assert len(set(seen)) == len(seen)
    assert {client.client_id for client in clients} <= set(seen)
    assert len(set(channels)) == len(channels)
    assert {f"{fresh_room}:c{n}" for n in range(5)} <= set(channels)


# --- history --------------------------------------------------------------------------------------------------------------


async def filled(wire: Connect, server: BusServer, room: str, dialect: Dialect, count: int) -> WireClient:
    """A client in `room:a` that published `count` messages there."""
    client = await wire(server, dialect=dialect, room=room, channel="a")
    for number in range(1, count + 1):
        await client.publish(
            f"m{number}", channel="a", type="event" if number % 2 else "note", ack=number == count
        ) if (dialect == "v0") else await client.publish(f"m{number}", channel="a", ack=number == count)
    return client


def texts(result: dict[str, Any]) -> list[str]:
    return [message["message"] for message in result["messages"]]


async def test_history_gives_the_last_50_oldest_first_as_they_were_delivered(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    reader = await wire(shared_server, room=fresh_room, channel="a")
    await filled(wire, shared_server, fresh_room, dialect, 60)
    await reader.wait_seq(f"{fresh_room}:a", 60)
    outsider = await wire(shared_server, dialect=dialect)
    for client in (reader, outsider):
        result = await client.request("history", room=fresh_room, channel="a")
        assert texts(result) == [f"m{n}" for n in range(11, 61)]
        assert result["messages"] == reader.messages(f"{fresh_room}:a")[10:]
        assert result["next"] == 11
    rest = await outsider.request("history", room=fresh_room, channel="a", before=11)
    assert texts(rest) == [f"m{n}" for n in range(1, 11)]
    assert rest["next"] is None


async def test_history_pages_filters_and_takes_times(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    client = await filled(wire, shared_server, fresh_room, "v0", 6)
    other = await wire(shared_server, room=fresh_room, channel="a")
    await other.publish("mine", channel="a", ack=True)

    async def ask(**parameters: Any) -> dict[str, Any]:
        return await client.request("history", room=fresh_room, channel="a", **parameters)

    assert texts(await ask(limit=2)) == ["m6", "mine"]
    assert texts(await ask(before=4, limit=2)) == ["m2", "m3"]
    assert texts(await ask(after=2, limit=2)) == ["m3", "m4"]
    assert (await ask(after=2, limit=2))["next"] == 4
    assert texts(await ask(after="2", before="5")) == ["m3", "m4"]
    assert texts(await ask(type="note")) == ["m2", "m4", "m6"]
    assert texts(await ask(sender=other.client_id)) == ["mine"]
    assert texts(await ask(after="2001-01-01T00:00:00Z", limit=2)) == ["m1", "m2"]
    assert texts(await ask(before="2001-01-01T00:00:00Z")) == []
    assert texts(await ask(after="2999-01-01")) == []


async def test_a_rooms_history_is_that_of_all_its_channels_page_by_page(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    sent = []
    for number in range(20):
        # Many of one moment, in one transaction: a page must end between them.
        await client.publish(f"r{number}", room=fresh_room, channel=("a", "b", "*")[number % 3])
        sent.append(f"r{number}")
    await client.ping()
    await client.publish("last", room=fresh_room, channel="a", ack=True)
    sent.append("last")
    back: list[str] = []
    before = None
    while True:
        page = await client.request("history", room=fresh_room, limit=3, **({"before": before} if before else {}))
        back = texts(page) + back
        before = page["next"]
        if before is None:
            break
    assert sorted(back) == sorted(sent)
    forth: list[str] = []
    after: Any = "2001-01-01"
    while after is not None:
        page = await client.request("history", room=fresh_room, limit=3, after=after)
        forth += texts(page)
        after = page["next"]
    assert forth == back
    with pytest.raises(WireError) as caught:
        await client.request("history", room=fresh_room, after=3)
    assert "no common seq" in str(caught.value)


async def test_reading_a_room_forward_meets_what_is_said_meanwhile_in_any_channel(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    client = await wire(shared_server, room=fresh_room, channel="long")
    await client.publish("first of quiet", channel="quiet", ack=True)
    for number in range(6):
        await client.publish(f"long {number}", channel="long", ack=True)
    seen: list[str] = []
    after: Any = "2001-01-01"
    while after is not None:
        page = await client.request("history", room=fresh_room, limit=3, after=after)
        assert isinstance(page["next"], str | None)
        if not seen:
            # The quiet channel was at its end with this page, and the other one was not there.
            await client.publish("second of quiet", channel="quiet", ack=True)
            await client.publish("first of new", channel="new", ack=True)
        seen += texts(page)
        after = page["next"]
    long = [f"long {number}" for number in range(6)]
    assert seen == ["first of quiet", *long, "second of quiet", "first of new"]
    # The place of a page belongs to the parameter that it was read with.
    page = await client.request("history", room=fresh_room, limit=3)
    for parameters in ({"after": page["next"]}, {"before": "before:nonsense"}, {"before": "before:"}):
        with pytest.raises(WireError) as caught:
            await client.request("history", room=fresh_room, **parameters)
        assert caught.value.code == "VALIDATION_ERROR", parameters


async def test_an_answer_stays_below_a_frame_that_clients_take(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    big = "x" * 200_000
    for number in range(8):
        await client.publish(f"{number}{big}", channel="a", ack=True)
    seen: list[str] = []
    before = None
    while True:
        page = await client.request("history", room=fresh_room, channel="a", **({"before": before} if before else {}))
        assert len(client.received[-1].raw) < 1024 * 1024
        assert page["messages"]
        seen = [text[0] for text in texts(page)] + seen
        before = page["next"]
        if before is None:
            break
    assert seen == list("01234567")


async def test_history_of_what_is_not_there_is_told(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect)
    assert (await client.command("history", room=fresh_room))["error"]["code"] == "ROOM_NOT_FOUND"
    missing = await client.command("history", room="science", channel="unknown")
    assert missing["error"]["code"] == "CHANNEL_NOT_FOUND"
    # Without an address: the initial channel's.
    await client.join(fresh_room, "a")
    result = await client.request("history")
    assert (result["room"], result["channel"]) == ("science", "general")


# --- the client model (issue 2, item 1) -----------------------------------------------------------------------------------


async def test_figures_stay_right_after_disconnects_and_restarts(
    start_server: StartServer, wire: Connect, fresh_room: str, name: Name
) -> None:
    server = start_server(env={"ARQONBUS_NODE_HEARTBEAT": "0.2"})
    lasting = await wire(server, client_id=name("lasting"), room=fresh_room, personality={"mood": "calm"})
    passing = await wire(server, room=fresh_room, register=False)
    await passing.send({"room": fresh_room, "client_type": "app"})
    await passing.expect("system", "registered")
    for number in range(3):
        await lasting.publish(f"{number}", channel="general", ack=True)
    stats = (await lasting.request("status"))["stats"]
    assert (stats["total_connections"], stats["active_connections"], stats["total_messages"]) == (2, 2, 3)
    server.restart()
    back = await wire(server, client_id=name("lasting"), room=fresh_room, personality={"mood": "calm"})
    stats = (await back.request("status"))["stats"]
    assert (stats["total_connections"], stats["active_connections"], stats["total_messages"]) == (3, 1, 3)
    assert stats["active_rooms"] == 1
    info = await back.request("channel_info", room=fresh_room, channel="general")
    assert [row["client_id"] for row in info["participants"]] == [name("lasting")]
    # What a client did last is written down, at the latest when it goes.
    last = datetime.now(UTC)
    await back.ping()
    await back.close()
    server.restart(graceful=True)
    find = f"from bus.models import Client; c = Client.objects.get(client_id={name('lasting')!r})"
    look = f"{find}; print(c.last_activity, c.personality)"
    kept = await asyncio.to_thread(server.manage, "shell", "--verbosity", "0", "-c", look)
    moment, _, personality = kept.strip().partition(" {")
    assert datetime.fromisoformat(moment) >= last
    assert personality == "'mood': 'calm'}"
    again = await wire(server, client_id=name("lasting"), room=fresh_room, personality={"mood": "calm"})
    stats = (await again.request("status"))["stats"]
    assert (stats["total_connections"], stats["active_connections"], stats["total_messages"]) == (4, 1, 3)
