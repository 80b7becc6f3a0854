"""Rooms and channels over HTTP: the rules, the errors and the audit log are those of the commands."""

from __future__ import annotations

from tests.conftest import Connect
from tests.harness.server import BusServer
from tests.rest.conftest import Rest, lately


def test_a_channel_is_made_described_changed_and_deleted(admin: Rest, fresh_room: str) -> None:
    made = admin.ok(
        "POST",
        "channels",
        {
            "room": fresh_room,
            "channel": "a",
            "description": "for results",
            "metadata": {"team": "x"},
            "retention": {"count": 7},
        },
    )
    assert made["metadata"]["description"] == "for results"
    assert made["metadata"]["team"] == "x"
    assert made["metadata"]["retention"] == {"count": 7, "age": None}
    assert made["metadata"]["created_by"] == "rest-admin"
    assert admin.get(f"channels/{fresh_room}:a") == made
    changed = admin.ok("PATCH", f"channels/{fresh_room}:a", {"description": "", "retention": {"age": 60}}, 200)
    assert changed["metadata"]["description"] == ""
    assert changed["metadata"]["retention"] == {"count": 7, "age": 60}
    assert [row["channel"] for row in admin.get("channels", room=fresh_room)["results"]] == ["a"]
    admin.ok("DELETE", f"channels/{fresh_room}:a", status=204)
    assert admin.error("GET", f"channels/{fresh_room}:a")["code"] == "CHANNEL_NOT_FOUND"
    audit = admin.get("audit", target=fresh_room, door="rest")["results"]
    assert [row["action"] for row in audit] == ["delete_channel", "update_channel", "create_channel"]
    assert all(row["actor"] == "rest-admin" for row in audit)


def test_values_of_another_kind_are_refused_and_not_made_to_fit(admin: Rest, fresh_room: str) -> None:
    wrong: dict[str, object] = {
        "channel": 5,
        "description": "x" * 500 + " ",
        "ephemeral": "no",
        "retention": {"count": "7", "age": True},
    }
    error = admin.error("POST", "channels", {"room": fresh_room, **wrong})
    assert {fault["field"].partition(".")[0] for fault in error["details"]} == set(wrong)
    for flag in (0, 0.0, "false", ""):
        error = admin.error("POST", "rooms", {"room": fresh_room, "private": flag, "presence": flag})
        assert {fault["field"] for fault in error["details"]} == {"private", "presence"}
    assert admin.error("GET", f"rooms/{fresh_room}")["code"] == "ROOM_NOT_FOUND"


async def test_deleting_follows_the_rules_of_the_command(
    admin: Rest, alice: Rest, wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    await wire(shared_server, client_id=f"{fresh_room}-member", room=f"{fresh_room}:busy")
    error = admin.error("DELETE", f"channels/{fresh_room}:busy")
    assert (error["code"], error["details"]) == ("CHANNEL_NOT_EMPTY", [{"participants": [f"{fresh_room}-member"]}])
    assert admin.error("DELETE", "channels/science:explore")["code"] == "CHANNEL_PROTECTED"
    assert admin.error("DELETE", f"channels/{fresh_room}:none")["code"] == "CHANNEL_NOT_FOUND"
    assert alice.error("DELETE", f"channels/{fresh_room}:busy")["code"] == "FORBIDDEN"
    assert alice.error("POST", "channels", {"room": fresh_room, "channel": "mine"})["code"] == "FORBIDDEN"
    assert admin.error("POST", "channels", {"room": fresh_room, "channel": "busy"})["code"] == "CHANNEL_EXISTS"
    assert admin.error("POST", "channels", {"room": "pm", "channel": "x"})["code"] == "INVALID_NAME"


def test_a_channels_deletion_reaches_the_room_and_its_rules(admin: Rest, fresh_room: str) -> None:
    admin.ok("POST", "rooms", {"room": fresh_room, "description": "a room"})
    assert admin.error("POST", "rooms", {"room": fresh_room})["code"] == "ROOM_EXISTS"
    admin.ok("POST", "channels", {"room": fresh_room, "channel": "a"})
    admin.ok("POST", f"channels/{fresh_room}:a/messages", {"message": "soon gone"})
    assert admin.get(f"rooms/{fresh_room}")["channels"] == 1
    assert admin.ok("PATCH", f"rooms/{fresh_room}", {"presence": False}, 200)["presence"] is False
    admin.ok("DELETE", f"rooms/{fresh_room}", status=204)
    assert admin.error("GET", f"rooms/{fresh_room}")["code"] == "ROOM_NOT_FOUND"
    assert admin.error("GET", f"channels/{fresh_room}:a/messages")["code"] == "ROOM_NOT_FOUND"
    assert admin.error("DELETE", "rooms/science")["code"] == "CHANNEL_PROTECTED"


def test_a_private_room_is_not_there_for_others(admin: Rest, alice: Rest, anonymous: Rest, fresh_room: str) -> None:
    began = lately()
    admin.ok("POST", "rooms", {"room": fresh_room, "private": True})
    admin.ok("POST", "channels", {"room": fresh_room, "channel": "secret"})
    admin.ok("POST", f"channels/{fresh_room}:secret/messages", {"message": "hidden"})
    for caller in (alice, anonymous):
        nowhere = f"{fresh_room}x"
        assert fresh_room not in [row["room"] for row in caller.get("rooms", limit=500)["results"]]
        assert caller.get("channels", search="secret", room=fresh_room)["results"] == []
        for path in ("rooms/{}", "channels/{}:secret", "channels/{}:secret/messages", "messages?room={}"):
            hidden = caller.error("GET", path.format(fresh_room))
            missing = caller.error("GET", path.format(nowhere))
            assert hidden["code"] == missing["code"], path
            assert hidden["message"].replace(fresh_room, nowhere) == missing["message"]
        assert caller.error("POST", f"channels/{fresh_room}:secret/messages", {"message": "x"})["number"] == 404
        found = caller.get("messages", text="hidden", after=began)["results"]
        assert not [row for row in found if row["room"] == fresh_room]
    # A grant opens it, at once.
    grant = admin.ok(
        "POST",
        "grants",
        {"subject": "token", "subject_name": "rest-alice", "action": "history", "pattern": f"{fresh_room}:*"},
    )
    assert [row["message"] for row in alice.get(f"channels/{fresh_room}:secret/messages")["results"]] == ["hidden"]
    assert alice.get(f"rooms/{fresh_room}")["channels"] == 1
    admin.ok("DELETE", f"grants/{grant['id']}", status=204)
    assert alice.error("GET", f"channels/{fresh_room}:secret/messages")["number"] == 404


def test_lists_come_in_pages_and_filters_narrow_them(admin: Rest, fresh_room: str) -> None:
    for number in range(7):
        admin.ok(
            "POST", "channels", {"room": fresh_room, "channel": f"c{number}", "type": "even" if number % 2 else "odd"}
        )
    pages = admin.pages("channels", room=fresh_room, limit=3)
    assert [[row["channel"] for row in page] for page in pages] == [["c0", "c1", "c2"], ["c3", "c4", "c5"], ["c6"]]
    assert len(admin.get("channels", room=fresh_room, type="even")["results"]) == 3
    assert len(admin.get("channels", room=fresh_room, search="C3")["results"]) == 1
    assert admin.get("channels", room=fresh_room, hardcoded="true")["results"] == []
    assert {row["room"] for page in admin.pages("rooms", limit=1) for row in page} >= {fresh_room, "science"}


def test_names_with_slashes_have_an_address(admin: Rest, fresh_room: str) -> None:
    admin.ok("POST", "channels", {"room": f"{fresh_room}/a", "channel": "b/messages"})
    admin.ok("POST", "messages", {"room": f"{fresh_room}/a", "channel": "b/messages", "message": "found"})
    encoded = f"channels/{fresh_room}%2Fa:b%252Fmessages"
    assert admin.get(encoded)["channel"] == "b/messages"
    assert admin.get(f"{encoded}/messages")["results"][0]["message"] == "found"
    admin.ok("DELETE", encoded, status=204)
