"""Amendments over sockets: who may change which message, what members get, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Connect
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer

Name = Callable[[str], str]


async def said(client: WireClient, address: str, text: str = "hi") -> dict[str, Any]:
    """Say something; the id and the seq of the message."""
    sent = await client.publish(ack=True, channel=address, message=text)
    uid = sent["request_id"]
    return {"of": uid if uid.startswith("arq_") else f"arq_{uid}", "of_seq": sent["seq"]}


async def refused(sent: Any) -> dict[str, Any]:
    """The error of a frame that is refused."""
    with pytest.raises(WireError) as caught:
        await sent
    error: dict[str, Any] = caught.value.frame["error"]
    return error


async def test_members_get_each_amendment_and_history_folds_them(
    shared_server: BusServer, wire: Connect, name: Name, fresh_room: str, dialect: Dialect
) -> None:
    address = f"{fresh_room}:chat"
    alice = await wire(shared_server, client_id=name("alice"), room=address, dialect=dialect)
    bob = await wire(shared_server, client_id=name("bob"), room=address, dialect=dialect)
    message = await said(alice, address)
    edited = await alice.publish(ack=True, type="amend", channel=address, **message, do="edit", message="ho")
    await bob.expect(type="event")
    frame = await bob.expect(type="amend")
    assert {key: frame[key] for key in ("of", "of_seq", "do", "edits", "message", "seq")} == {
        **message, "do": "edit", "edits": ["message" if dialect == "v0" else "payload"], "message": "ho", "seq": edited["seq"],
    }  # fmt: skip
    assert list(frame).index("of") < list(frame).index("payload")
    # Without its seq, the message is found too.
    await bob.publish(ack=True, type="amend", channel=address, of=message["of"], do="react", reaction="👍")
    page = (await alice.command("history", channel=address, fold=True))["result"]["messages"]
    assert [(m["message"], m["payload"], m["reactions"]) for m in page if m["type"] != "system"] == [
        ("ho", {"message": "ho"}, {"👍": [name("bob")]})
    ]
    assert page[0]["edited"] == {"seq": edited["seq"], "at": frame["timestamp"], "by": name("alice")}
    raw = (await alice.command("history", channel=address))["result"]["messages"]
    assert [m["type"] for m in raw] == ["event", "amend", "amend"]

    await alice.publish(ack=True, type="amend", channel=address, **message, do="delete")
    (page,) = (await bob.command("history", channel=address, fold=True))["result"]["messages"]
    assert (page["payload"], "message" in page, page["deleted"]["by"]) == ({}, False, name("alice"))
    late: list[dict[str, Any]] = [{"do": "edit", "message": "back"}, {"do": "delete"}, {"do": "react", "reaction": "x"}]
    for do in late:
        error = await refused(alice.publish(ack=True, type="amend", channel=address, **message, **do))
        assert error["code"] == "MESSAGE_NOT_FOUND"


async def test_a_message_right_behind_may_be_amended_and_a_repeat_counts_once(
    shared_server: BusServer, wire: Connect, name: Name, fresh_room: str
) -> None:
    address = f"{fresh_room}:chat"
    alice = await wire(shared_server, client_id=name("alice"), room=address)
    await alice.send({"id": "m1", "channel": address, "message": "hi"})
    edit: dict[str, Any] = {"type": "amend", "channel": address, "of": "arq_m1", "do": "edit", "payload": {"a": 1}}
    first = await alice.publish(ack=True, message_id="e1", **edit)
    again = await alice.publish(ack=True, message_id="e1", **edit)
    assert (again["seq"], again["duplicate"]) == (first["seq"], True)
    # Also while a transaction of other messages runs, behind which the message still waits.
    bob = await wire(shared_server, client_id=name("bob"), room=f"{fresh_room}:other")
    for number in range(30):
        for _ in range(5):
            await bob.send({"channel": f"{fresh_room}:other", "message": "x" * 5_000})
        await alice.send({"id": f"n{number}", "channel": address, "message": "hi"})
        delete = {"type": "amend", "channel": address, "of": f"arq_n{number}", "do": "delete", "ack": True}
        await alice.send({"id": f"f{number}", **delete})
        assert (await alice.expect(type="ack", request_id=f"f{number}"))["seq"]


@pytest.mark.embedded
async def test_only_the_sender_edits_and_deletes(
    shared_server: BusServer, wire: Connect, name: Name, fresh_room: str
) -> None:
    address = f"{fresh_room}:chat"
    alice = await wire(shared_server, client_id=name("alice"), room=address)
    bob = await wire(shared_server, client_id=name("bob"), room=address)
    message = await said(alice, address)
    changes: list[dict[str, Any]] = [{"do": "edit", "message": "x"}, {"do": "delete"}]
    for do in changes:
        error = await refused(bob.publish(ack=True, type="amend", channel=address, **message, **do))
        assert (error["code"], error["details"][0]["action"]) == ("FORBIDDEN", "manage")
    wrong = [
        {**message, "of": "arq_none"}, {**message, "of_seq": message["of_seq"] + 50}, {"of": "arq_none"},
        {**message, "channel": f"{fresh_room}:other"}, {**message, "channel": f"{fresh_room}:*"},
    ]  # fmt: skip
    codes = [
        (await refused(alice.publish(ack=True, **{"type": "amend", "channel": address, "do": "delete", **keys})))[
            "code"
        ]
        for keys in wrong
    ]
    assert codes == [*["MESSAGE_NOT_FOUND"] * 3, "CHANNEL_NOT_FOUND", "MESSAGE_NOT_FOUND"]
    reaction = await alice.publish(ack=True, type="amend", channel=address, **message, do="react", reaction="x")
    of_amendment = {"of": f"arq_{reaction['request_id'].removeprefix('arq_')}", "of_seq": reaction["seq"]}
    error = await refused(alice.publish(ack=True, type="amend", channel=address, **of_amendment, do="delete"))
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "of")
    error = await refused(alice.publish(ack=True, type="amend", channel=f"pm:{name('bob')}", of="arq_x", do="delete"))
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "of")


@pytest.mark.embedded
async def test_an_event_that_is_called_amend_is_still_an_event(
    shared_server: BusServer, wire: Connect, name: Name, fresh_room: str
) -> None:
    address = f"{fresh_room}:chat"
    alice = await wire(shared_server, client_id=name("alice"), room=address)
    bob = await wire(shared_server, client_id=name("bob"), room=address)
    await alice.publish(ack=True, type="amend", channel=address, payload={"law": 1})
    await alice.publish(ack=True, type="amend", channel=address, of=7, do="edit", payload={"law": 2})
    assert (await bob.expect(type="amend"))["payload"] == {"law": 1}
    frame = await bob.expect(type="amend")
    assert (frame["payload"], frame["metadata"]) == ({"law": 2}, {"of": 7, "do": "edit"})
