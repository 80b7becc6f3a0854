"""The setting `presence` of a channel: names, counts or none."""

from __future__ import annotations

import httpx
import pytest

from tests.conftest import Connect
from tests.harness.client import WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

EVENTS = {"client_joined", "client_left", "client_updated", "presence"}


@pytest.mark.parametrize("presence", ["counts", "none"])
async def test_members_do_not_learn_names(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str, presence: str
) -> None:
    admin = await wire(shared_server, token=admin_token)
    made = await admin.request("create_channel", room=fresh_room, channel="a", presence=presence)
    assert made["metadata"]["presence"] == presence
    count = 1 if presence == "counts" else None
    alice, bob = await wire(shared_server), await wire(shared_server)
    assert (await alice.join(fresh_room, "a"))["participants"] == count
    await bob.join(fresh_room, "a")
    await bob.request("set_status", status="busy")
    if presence == "counts":
        notice = (await alice.expect("system", "presence"))["payload"]
        assert notice["joined"] == []
        assert notice["joined_count"] > 0
        two: int | None = 2
    else:
        two = None
    info = await alice.request("channel_info", room=fresh_room, channel="a")
    assert (info["participants"], info["participant_count"]) == ([], two)
    (row,) = (await alice.request("list_channels", room=fresh_room))["channels"]
    assert (row["participants"], row["presence"]) == (two, presence)
    everybody = (await alice.request("list_clients"))["clients"]
    assert bob.client_id not in {one["client_id"] for one in everybody if f"{fresh_room}:a" in one["channels"]}
    me = next(one for one in everybody if one["client_id"] == alice.client_id)
    assert f"{fresh_room}:a" in me["channels"]
    with pytest.raises(WireError) as refused:
        await alice.request("list_clients", room=fresh_room, channel="a")
    assert refused.value.code in ("FORBIDDEN", "VALIDATION_ERROR")
    named = await admin.request("channel_info", room=fresh_room, channel="a")
    assert {who["client_id"] for who in named["participants"]} == {alice.client_id, bob.client_id}
    await bob.leave(fresh_room, "a")
    await alice.ping()
    told = [frame for frame in alice.frames if frame.get("channel") == "a" and frame["type"] == "system"]
    assert bob.client_id not in str(told)
    assert {frame["payload"]["event"] for frame in told} & EVENTS <= ({"presence"} if presence == "counts" else set())


async def test_a_wrong_setting_is_answered_with_the_words_that_it_may_be(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str
) -> None:
    admin = await wire(shared_server, token=admin_token)
    with pytest.raises(WireError) as refused:
        await admin.request("create_channel", room=fresh_room, channel="a", presence="bogus")
    assert refused.value.details == [{"field": "presence", "message": "`presence` is counts, names or none."}]


async def test_the_setting_changes_over_rest_and_acts_on_members(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str
) -> None:
    alice, bob, carol = await wire(shared_server), await wire(shared_server), await wire(shared_server)
    for one in (alice, bob):
        await one.join(fresh_room, "a")
    await alice.expect("system", "client_joined")
    bearer = {"Authorization": f"Bearer {admin_token}"}
    async with httpx.AsyncClient(base_url=f"{shared_server.http_url}/api/v1", headers=bearer) as rest:
        path = f"/channels/{fresh_room}:a"
        assert (await rest.patch(path, json={"presence": "secret"})).status_code == 400
        changed = await rest.patch(path, json={"presence": "none"})
        assert (changed.status_code, changed.json()["metadata"]["presence"]) == (200, "none")

    async def unnamed() -> bool:
        """Join once this process has heard of the change."""
        info = await carol.request("channel_info", room=fresh_room, channel="a")
        return info["participant_count"] is None and (await carol.join(fresh_room, "a"))["participants"] is None

    await wait_for(unnamed, "the change acts")
    await alice.ping()
    assert not [frame for frame in alice.frames if frame.get("room") == fresh_room and carol.client_id in str(frame)]
