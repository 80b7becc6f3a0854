"""What lasts is counted for who brings it into being, and nobody gets it who may not: rooms, ids, tokens, the audit log."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import WireError
from tests.harness.server import BusServer
from tests.rest.conftest import CallAs, call_as

__all__ = ["call_as"]


def issue(server: BusServer, fields: str) -> str:
    """A token's secret; ``fields`` is Python for `AccessToken.issue`."""
    code = (
        f"from bus.models import *; from django.contrib.auth.models import User; print(AccessToken.issue({fields})[1])"
    )
    return server.manage("shell", "-v0", "-c", code).split()[-1]


async def test_rooms_made_by_writing_to_all_of_them_are_counted_by_every_door(
    start_server: StartServer, wire: Connect, call_as: CallAs
) -> None:
    server = start_server(env={"ARQONBUS_CHANNELS_PER_CLIENT": "5"})
    token = issue(server, "'maker'")
    client = await wire(server, client_id="maker-1", token=token, room="first")
    rest = call_as(server, token)
    batch = {"messages": [{"room": "x5", "message": "m"}, {"room": "x6", "message": "m"}]}
    for n in range(1, 4):
        await client.publish("m", room=f"x{n}", ack=True)
    # Four by now, with the channel that it registered in. A batch of two is one too many, and nothing of it is made.
    assert rest.error("POST", "/messages", batch)["code"] == "LIMIT_REACHED"
    assert rest("POST", "/messages", {"room": "x4", "message": "m"}).status_code == 201
    assert rest.error("POST", "/messages", {"room": "x5", "message": "m"})["code"] == "LIMIT_REACHED"
    await client.send({"type": "event", "id": "e1", "room": "x5", "message": "m", "ack": True})
    assert (await client.expect(request_id="e1"))["error"]["code"] == "LIMIT_REACHED"
    await client.send(client.command_frame("join_channel", {"room": "x5", "channel": "c"}, "j1"))
    assert (await client.expect(request_id="j1"))["error"]["code"] == "LIMIT_REACHED"
    # To all of a room that is there anybody may write.
    assert rest("POST", "/messages", {"room": "science", "message": "m"}).status_code == 201


async def test_an_id_is_taken_with_a_message_that_may_be_written_and_not_before(
    start_server: StartServer, call_as: CallAs
) -> None:
    server = start_server(env={"ARQONBUS_CLIENT_IDS_PER_PRINCIPAL": "3"})
    reader = call_as(server, issue(server, "'reader', scopes=['history']"))
    writer = call_as(server, issue(server, "'writer'"))
    room = "/channels/lab:talk/messages"
    assert reader.error("POST", f"{room}?client_id=mine", {"message": "x"})["code"] == "FORBIDDEN"
    assert reader.error("POST", f"{room}?client_id=mine", {"type": "nonsense", "to": 5})["number"] == 400
    assert reader.get("/me")["client_ids"] == []
    for n in range(3):
        writer.ok("POST", f"{room}?client_id=mine-{n}", {"message": "x"})
    error = writer.error("POST", f"{room}?client_id=mine-3", {"message": "x"})
    assert (error["code"], error["details"]) == ("LIMIT_REACHED", [{"limit": "client_ids_per_principal", "value": 3}])
    writer.ok("POST", f"{room}?client_id=mine-2", {"message": "x"})
    assert writer.get("/me")["client_ids"] == ["mine-0", "mine-1", "mine-2"]
    # What was refused is nobody's.
    other = call_as(server, issue(server, "'other'"))
    other.ok("POST", f"{room}?client_id=mine", {"message": "x"})
    other.ok("POST", f"{room}?client_id=mine-3", {"message": "x"})


async def test_the_ids_of_one_identity_are_counted_on_sockets_too(start_server: StartServer, wire: Connect) -> None:
    server = start_server(env={"ARQONBUS_CLIENT_IDS_PER_PRINCIPAL": "2"})
    token = issue(server, "'device'")
    for n in (1, 2, 1):
        client = await wire(server, client_id=f"device-{n}", token=token)
        await client.close()
    with pytest.raises(WireError, match="LIMIT_REACHED"):
        await wire(server, client_id="device-3", token=token)
    await wire(server, client_id="device-2", token=token)


async def test_a_bounded_token_sees_and_ends_no_other_token_of_its_user(
    start_server: StartServer, call_as: CallAs
) -> None:
    server = start_server()
    user = "User.objects.get_or_create(username='ada')[0]"
    whole = call_as(server, issue(server, f"'whole', user={user}, admin=True"))
    bounded = call_as(server, issue(server, f"'bounded', user={user}, scopes=['join']"))
    manager = call_as(server, issue(server, f"'manager', user={user}, scopes=['join', 'manage']"))
    ids = {row["name"]: row["id"] for row in whole.get("/tokens")["results"]}
    assert set(ids) == {"whole", "bounded", "manager"}
    assert {row["name"] for row in manager.get("/tokens")["results"]} == set(ids)
    assert [row["name"] for row in bounded.get("/tokens")["results"]] == ["bounded"]
    for name in ("whole", "manager"):
        assert bounded.error("DELETE", f"/tokens/{ids[name]}")["number"] == 404
    assert bounded("DELETE", f"/tokens/{ids['bounded']}").status_code == 204
    assert whole("GET", "/me").status_code == 200


async def test_the_audit_log_tells_who_is_called_root_and_who_is_root(
    start_server: StartServer, call_as: CallAs
) -> None:
    server = start_server()
    user = "User.objects.get_or_create(username='root', is_superuser=True)[0]"
    callers = [issue(server, f"'any', user={user}"), issue(server, "'root', admin=True")]
    admin = call_as(server, callers[0])
    for n, secret in enumerate(callers):
        call_as(server, secret).ok("POST", "/rooms", {"room": f"made-{n}"})
    rows = admin.get("/audit", action="create_room")["results"]
    assert {row["actor"] for row in rows} == {"root"}
    principals = [row["principal"] for row in rows]
    assert [principal.split(":")[0] for principal in principals] == ["token", "user"]
    assert admin.get("/audit", principal=principals[0], action="create_room")["results"] == rows[:1]
