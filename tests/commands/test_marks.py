"""The command mark, and `since: "mark"` of join_channel and register: the server remembers how far one has come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Connect
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for


async def _write(client: WireClient, room: str, *texts: str, channel: str = "lab") -> None:
    for text in texts:
        await client.publish(text, room=room, channel=channel, ack=True)


async def _again(wire: Connect, client: WireClient, **registration: Any) -> WireClient:
    """The same client on a new connection, which names no positions."""
    resume = {"token": client.registered["resume_token"]}
    return await wire(
        client.url, **{**client.registration, "client_id": client.client_id}, resume=resume, **registration
    )


async def _texts(client: WireClient, *wanted: str) -> None:
    """Wait until exactly these messages came, in their order."""
    await wait_for(lambda: len(client.messages()) >= len(wanted), f"{wanted} come")
    await client.ping()
    assert [frame["message"] for frame in client.messages()] == list(wanted)


async def test_a_mark_goes_forward_and_back_only_when_asked(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect, room=fresh_room, channel="lab")
    await _write(client, fresh_room, "1", "2", "3")
    first = await client.request("mark", seq=2)
    assert first == {"room": fresh_room, "channel": "lab", "seq": 2, "epoch": first["epoch"], "unread": 1}
    assert (await client.request("mark", seq=1))["seq"] == 2
    back = await client.request("mark", room=f"{fresh_room}:lab", seq=1, back=True)
    assert (back["seq"], back["unread"]) == (1, 2)
    assert (await client.request("mark", seq=3, epoch=first["epoch"]))["unread"] == 0


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({}, "seq"),
        ({"seq": 4}, "seq"),
        ({"seq": -1}, "seq"),
        ({"seq": 2**63}, "seq"),
        ({"seq": "two"}, "seq"),
        ({"seq": 1, "back": "perhaps"}, "back"),
        ({"seq": 1, "epoch": "other"}, "epoch"),
    ],
)
async def test_a_wrong_mark_is_refused_and_changes_nothing(
    shared_server: BusServer, wire: Connect, fresh_room: str, parameters: dict[str, Any], field: str
) -> None:
    client = await wire(shared_server, room=fresh_room, channel="lab")
    await _write(client, fresh_room, "1", "2", "3")
    with pytest.raises(WireError) as refused:
        await client.request("mark", **parameters)
    assert refused.value.code == "VALIDATION_ERROR"
    (fault,) = refused.value.details
    assert fault["field"] == field
    if parameters.get("seq") == 4:
        assert fault["head"] == 3
    listed = await client.request("list_channels", room=fresh_room)
    assert "unread" not in listed["channels"][0]


async def test_a_mark_needs_the_right_to_the_history(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    mine = await wire(shared_server)
    theirs = await wire(shared_server)
    await mine.publish("a letter", type="private", to=[theirs.client_id], ack=True)
    for room, channel, code in (
        ("pm", theirs.client_id, "CHANNEL_NOT_FOUND"),
        ("pm", f"{fresh_room}-nobody", "CHANNEL_NOT_FOUND"),
        (fresh_room, "none", "CHANNEL_NOT_FOUND"),
    ):
        answer = await mine.command("mark", room=room, channel=channel, seq=0)
        assert answer["error"]["code"] == code, (room, channel)
    assert (await theirs.request("mark", room="pm", channel=theirs.client_id, seq=1))["unread"] == 0


async def test_a_busy_reader_gets_an_answer_to_each_of_its_marks(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    client = await wire(shared_server, room=fresh_room, channel="lab")
    await asyncio.gather(*(client.publish(str(n), ack=True) for n in range(40)))
    answers = await asyncio.gather(*(client.request("mark", seq=n) for n in range(1, 41)))
    assert [answer["seq"] for answer in answers] == sorted(answer["seq"] for answer in answers)
    assert all(answer["seq"] >= n for n, answer in enumerate(answers, 1))
    assert answers[-1] == {**answers[-1], "seq": 40, "unread": 0}


async def test_a_join_at_the_mark_begins_now_and_goes_on_there(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    writer = await wire(shared_server)
    await writer.join(fresh_room, "lab")
    await _write(writer, fresh_room, "past")
    reader = await wire(shared_server, dialect=dialect, client_id=f"{fresh_room}-reader")
    joined = await reader.request("join_channel", room=fresh_room, channel="lab", since="mark")
    assert (joined["seq"], joined["recovered"], joined["mark"]) == (1, True, 1)
    await _write(writer, fresh_room, "2")
    await _texts(reader, "2")
    # It has seen the message, and has not said that it dealt with it.
    await reader.close()
    await _write(writer, fresh_room, "3")
    back = await _again(wire, reader)
    assert back.registered["marks"] == {f"{fresh_room}:lab": {"seq": 1, "epoch": joined["epoch"]}}
    await back.request("join_channel", room=fresh_room, channel="lab", since="mark")
    await _texts(back, "2", "3")
    await back.request("mark", room=fresh_room, channel="lab", seq=3)
    again = await back.request("join_channel", room=fresh_room, channel="lab", since="mark")
    assert (again["mark"], again["recovered"]) == (3, True)
    (row,) = (await back.request("list_channels", room=fresh_room))["channels"]
    assert row["unread"] == 0


async def test_a_registration_at_the_mark_gets_the_channel_and_the_letters_of_the_time_between(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    writer = await wire(shared_server)
    reader = await wire(
        shared_server, dialect=dialect, client_id=f"{fresh_room}-r", room=fresh_room, channel="lab", since="mark"
    )
    own = f"pm:{reader.client_id}"
    assert reader.registered["channels"][own]["mark"] == reader.registered["channels"][f"{fresh_room}:lab"]["mark"] == 0
    assert set(reader.registered["marks"]) == {own, f"{fresh_room}:lab"}
    await reader.close()
    await _write(writer, fresh_room, "1")
    await writer.publish("letter", type="private", to=[reader.client_id], ack=True)
    back = await wire(
        shared_server, client_id=reader.client_id, room=fresh_room, channel="lab", since="mark",
        resume={"token": reader.registered["resume_token"]},
    )  # fmt: skip
    await wait_for(lambda: {m["message"] for m in back.messages()} == {"1", "letter"}, "both come")
    assert back.registered["channels"][own]["recovered"] is True


async def test_who_takes_an_id_without_proof_has_no_marks(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    first = await wire(shared_server, client_id=f"{fresh_room}-id", room=fresh_room, channel="lab")
    await _write(first, fresh_room, "1", "2")
    await first.request("mark", seq=1)
    await first.close()
    thief = await wire(shared_server, client_id=first.client_id, room=fresh_room, channel="lab")
    assert "marks" not in thief.registered
    (row,) = (await thief.request("list_channels", room=fresh_room))["channels"]
    assert "unread" not in row
    await thief.close()
    # The first one's token is void by now, so neither does it find its mark again.
    back = await _again(wire, first)
    assert "marks" not in back.registered


async def test_a_principal_has_its_marks_under_each_of_its_ids(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    token = await asyncio.to_thread(shared_server.create_token, f"marks of {fresh_room}")
    # An anonymous client proves later who it is, and keeps its marks.
    anonymous = await wire(shared_server, client_id=f"{fresh_room}-a", room=fresh_room, channel="lab")
    await _write(anonymous, fresh_room, "1", "2")
    await anonymous.request("mark", seq=1)
    await anonymous.close()
    named = await _again(wire, anonymous, token=token)
    assert named.registered["marks"][f"{fresh_room}:lab"]["seq"] == 1
    await named.request("mark", room=fresh_room, channel="lab", seq=2)
    other = await wire(shared_server, token=token, client_id=f"{fresh_room}-b")
    assert other.registered["marks"][f"{fresh_room}:lab"]["seq"] == 2
