"""Publishing and history over HTTP: the same log, order and rules as on the socket."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import Connect
from tests.harness.server import BusServer
from tests.rest.conftest import Rest, lately


async def test_a_posted_message_reaches_the_members_and_the_history(
    alice: Rest, wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    member = await wire(shared_server, room=f"{fresh_room}:a")
    body = '{"type":"reading","payload":{"celsius":21.50,"b":1,"a":2},"message":"warm","colour":"red"}'
    answer = alice.ok("POST", f"channels/{fresh_room}:a/messages", body)
    assert (answer["room"], answer["channel"], answer["seq"], answer["duplicate"]) == (fresh_room, "a", 1, False)
    frame = await member.expect(id=answer["id"])
    assert (frame["type"], frame["from"], frame["message"], frame["seq"]) == ("reading", "rest-alice", "warm", 1)
    assert frame["metadata"] == {"colour": "red"}
    stored = alice("GET", f"channels/{fresh_room}:a/messages").text
    assert '"payload":{"celsius":21.50,"b":1,"a":2}' in stored
    assert json.loads(stored)["results"] == [frame]
    assert alice.get(f"channels/{fresh_room}:a/messages/1") == frame
    assert alice.error("GET", f"channels/{fresh_room}:a/messages/2")["code"] == "NOT_FOUND"


def test_a_repeated_id_is_published_once(alice: Rest, bob: Rest, fresh_room: str) -> None:
    path = f"channels/{fresh_room}:a/messages"
    first = alice.ok("POST", path, {"id": "one", "message": "x"})
    again = alice.ok("POST", path, {"id": "one", "message": "x"}, 200)
    assert again == {**first, "duplicate": True}
    # Another sender's ids are its own.
    assert bob.ok("POST", path, {"id": "one", "message": "y"})["seq"] == 2
    assert len(alice.get(path)["results"]) == 2


def test_repeats_at_the_same_time_leave_one_row_and_one_seq_each(alice: Rest, fresh_room: str) -> None:
    path = f"channels/{fresh_room}:a/messages"

    def post(number: int) -> tuple[int, int]:
        answer = alice("POST", path, {"id": f"id-{number}", "message": "x"})
        assert answer.status_code in (200, 201), answer.text
        return number, answer.json()["seq"]

    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(post, [number for number in range(20) for _ in range(3)]))
    assert len(answers) == 20
    assert sorted(seq for _, seq in answers) == list(range(1, 21))


def test_a_batch_is_published_in_its_order_or_not_at_all(alice: Rest, fresh_room: str) -> None:
    answer = alice.ok(
        "POST",
        "messages",
        {"messages": [{"channel": f"{fresh_room}:{c}", "message": str(n)} for n, c in enumerate("abab")]},
    )
    assert [(row["channel"], row["seq"]) for row in answer["results"]] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    refused = alice.error(
        "POST",
        "messages",
        {
            "messages": [
                {"channel": f"{fresh_room}:a", "message": "never"},
                {"channel": f"{fresh_room}:new", "message": "never"},
                {"channel": "*", "room": "*", "message": "to everybody"},
            ]
        },
    )
    assert refused["code"] == "FORBIDDEN"
    assert len(alice.get(f"channels/{fresh_room}:a/messages")["results"]) == 2
    assert alice.error("GET", f"channels/{fresh_room}:new")["code"] == "CHANNEL_NOT_FOUND"
    faults = alice.error("POST", f"channels/{fresh_room}:a/messages", {"messages": [{"message": 1}, {"payload": 1}]})
    assert faults["details"][0]["index"] == 1
    assert alice.error("POST", "messages", {"messages": []})["code"] == "VALIDATION_ERROR"
    assert alice.error("POST", "messages", {"messages": [{}] * 501})["code"] == "VALIDATION_ERROR"


async def test_a_private_message_is_for_the_two_sides_only(
    alice: Rest, bob: Rest, anonymous: Rest, wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    target, began = f"{fresh_room}-target", lately()
    receiver = await wire(shared_server, client_id=target, room=f"{fresh_room}:a")
    sent = alice.ok("POST", "messages", {"type": "private", "to": target, "message": "psst"})
    assert (sent["room"], sent["channel"]) == ("pm", target)
    assert (await receiver.expect(id=sent["id"]))["from"] == "rest-alice"
    assert [row["message"] for row in alice.get(f"channels/pm:{target}/messages")["results"]] == ["psst"]
    for other in (bob, anonymous):
        assert other.get(f"channels/pm:{target}/messages")["results"] == []
        assert other.error("GET", f"channels/pm:{target}/messages/{sent['seq']}")["code"] == "NOT_FOUND"
        assert other.error("GET", f"channels/pm:{target}")["code"] == "CHANNEL_NOT_FOUND"
        assert not [
            row for row in other.get("messages", text="psst", after=began)["results"] if row["channel"] == target
        ]
    # The answer goes to the sender's own inbox, which only the sender reads.
    await receiver.send({"type": "private", "to": ["rest-alice"], "message": f"for {fresh_room}", "ack": True})
    await receiver.expect("ack")
    assert [row["message"] for row in alice.get("channels/pm:rest-alice/messages", text=fresh_room)["results"]]
    assert bob.get("channels/pm:rest-alice/messages", text=fresh_room)["results"] == []
    several = alice.ok("POST", "messages", {"type": "private", "to": [target, "nobody-here"], "message": "x"})
    assert (len(several["results"]), several["unknown_targets"]) == (1, ["nobody-here"])
    assert alice.error("POST", "messages", {"type": "private", "to": "nobody-here"})["code"] == "TARGET_NOT_FOUND"


def test_nobody_speaks_under_the_id_of_somebody_else(alice: Rest, bob: Rest, anonymous: Rest, fresh_room: str) -> None:
    path = f"channels/{fresh_room}:a/messages"
    own = f"{fresh_room}-agent"
    alice.ok("POST", path, {"message": "x", "from": "somebody"}, params={"client_id": own})
    assert alice.get(path)["results"][0]["from"] == own
    assert bob.error("POST", path, {"message": "x"}, params={"client_id": own})["code"] == "CLIENT_ID_IN_USE"
    assert anonymous.error("POST", path, {"message": "x"}, params={"client_id": own})["code"] == "FORBIDDEN"
    anonymous.ok("POST", path, {"message": "x"})
    assert alice.get(path)["results"][0]["from"].startswith("anonymous-")
    assert own in alice.get("me")["client_ids"]


def test_history_comes_in_pages_both_ways_without_hole_or_double(alice: Rest, fresh_room: str) -> None:
    for start in (0, 10):
        alice.ok(
            "POST",
            "messages",
            {
                "messages": [
                    {"channel": f"{fresh_room}:{'abc'[n % 3]}", "type": "odd" if n % 2 else "even", "message": f"Nº{n}"}
                    for n in range(start, start + 10)
                ]
            },
        )
    newest_first = [f"Nº{n}" for n in reversed(range(20))]
    pages = alice.pages("messages", room=fresh_room, limit=6)
    assert [len(page) for page in pages] == [6, 6, 6, 2]
    assert [row["message"] for page in pages for row in page] == newest_first
    oldest_first = alice.pages("messages", room=fresh_room, limit=7, order="asc")
    assert [row["message"] for page in oldest_first for row in page] == newest_first[::-1]
    one = alice.pages(f"channels/{fresh_room}:a/messages", limit=2)
    assert [row["seq"] for page in one for row in page] == [7, 6, 5, 4, 3, 2, 1]
    part = alice.get(f"channels/{fresh_room}:a/messages", after=2, before=6, order="asc")["results"]
    assert [row["seq"] for row in part] == [3, 4, 5]
    odd = alice.pages("messages", room=fresh_room, type="odd", limit=4)
    assert [row["message"] for page in odd for row in page] == [f"Nº{n}" for n in reversed(range(1, 20, 2))]
    assert [row["message"] for row in alice.get("messages", room=fresh_room, text="nº1")["results"]] == [
        f"Nº{n}" for n in (19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 1)
    ]
    assert alice.get("messages", room=fresh_room, text="payload")["results"] == []
    assert alice.get("messages", room=fresh_room, sender="rest-bob")["results"] == []
    middle = alice.get("messages", room=fresh_room, order="asc")["results"][10]["timestamp"]
    later = alice.get("messages", room=fresh_room, after=middle)["results"]
    earlier = alice.get("messages", room=fresh_room, before=middle)["results"]
    assert all(row["timestamp"] > middle for row in later)
    assert all(row["timestamp"] < middle for row in earlier)
    assert len(later) < 10 <= len(earlier)


def test_bad_questions_are_refused_with_every_fault(alice: Rest, fresh_room: str) -> None:
    error = alice.error("GET", "messages", params={"limit": 0, "order": "up", "before": "soon", "colour": "red"})
    assert error["code"] == "VALIDATION_ERROR"
    assert {fault["field"] for fault in error["details"]} == {"limit", "order", "before", "colour"}
    assert alice.error("GET", "messages?cursor=xyz")["details"][0]["field"] == "cursor"
    assert alice.error("GET", "channels?cursor=%00")["code"] == "VALIDATION_ERROR"
    assert alice.error("GET", "messages?channel=explore")["details"][0]["field"] == "room"
    for channel in ("a", "b"):
        alice.ok("POST", f"channels/{fresh_room}:{channel}/messages", {"message": "x"})
    assert alice.error("GET", f"messages?room={fresh_room}&after=3")["code"] == "VALIDATION_ERROR"
    for limit in ("5.0", "5_0", "+5", " 5"):
        assert alice.error("GET", "messages", params={"limit": limit})["details"][0]["field"] == "limit"
    assert alice.get(f"messages?room={fresh_room}&limit=&order=&text=&before=&after=&channel=a")["results"], (
        "empty is as good as none"
    )
    assert alice.error("GET", "channels/no%20name:x")["code"] == "INVALID_NAME"
    assert alice.error("POST", f"channels/{fresh_room}:/messages", {"message": "x"})["code"] == "INVALID_NAME"
    assert alice.error("GET", "rooms/no%00name")["code"] == "ROOM_NOT_FOUND"


def test_bad_bodies_are_refused_as_on_the_socket(alice: Rest, fresh_room: str) -> None:
    path = f"channels/{fresh_room}:a/messages"
    deep = '{"payload":' + '{"a":' * 60 + "1" + "}" * 60 + "}"
    for body, code in {
        "": "INVALID_JSON",
        "[1]": "INVALID_JSON",
        '{"message": NaN}': "INVALID_JSON",
        "\xff\xfe": "INVALID_JSON",
        deep: "INVALID_JSON",
        '{"payload": 3, "id": ""}': "VALIDATION_ERROR",
        '{"version": "2.0", "id": "arq_1"}': "UNSUPPORTED_VERSION",
        '{"version": "1.0", "id": "arq_1", "type": "odd"}': "UNKNOWN_TYPE",
        '{"type": "command", "command": "ping"}': "UNKNOWN_TYPE",
        '{"channel": "elsewhere", "message": "x"}': "VALIDATION_ERROR",
        json.dumps({"message": "x" * 300_000}): "FRAME_TOO_LARGE",
        json.dumps({"message": "x" * 5_000_000}): "FRAME_TOO_LARGE",
    }.items():
        assert alice.error("POST", path, body)["code"] == code, body[:50]
    assert alice.error("POST", "messages", {"message": "where to?"})["details"][0]["field"] == "channel"
    assert alice.error("POST", "messages", {"type": "system", "channel": f"{fresh_room}:a"})["code"] == "FORBIDDEN"
    form = alice("POST", path, headers={"Content-Type": "application/x-www-form-urlencoded"}, data={"message": "x"})
    assert form.json()["error"]["code"] == "UNSUPPORTED_MEDIA_TYPE"
    assert alice.get("channels", room=fresh_room)["results"] == []


def test_one_message_is_found_by_its_id(alice: Rest, anonymous: Rest, admin: Rest, fresh_room: str) -> None:
    address = f"{fresh_room}:a"
    sent = alice.ok("POST", f"channels/{address}/messages", {"message": "frist"})
    path = f"messages/{sent['id']}"
    alice.ok(
        "POST", f"channels/{address}/messages", {"type": "amend", "of": sent["id"], "do": "edit", "message": "first"}
    )
    for query in ({}, {"channel": address}, {"channel": address, "seq": 1}):
        assert alice.get(path, **query)["message"] == "frist"
        assert alice.get(path, **query, fold=1)["message"] == "first"
    assert alice.error("GET", path, params={"channel": address, "seq": 2})["code"] == "NOT_FOUND"
    assert alice.error("GET", f"messages/arq_{fresh_room}", params={"channel": address})["code"] == "NOT_FOUND"
    for wrong in ({"fold": "maybe"}, {"channel": address, "seq": "x"}):
        assert alice.error("GET", path, params=wrong)["code"] == "VALIDATION_ERROR"
    assert alice.error("GET", path, params={"channel": "x"})["code"] == "INVALID_NAME"
    admin.ok("PATCH", f"rooms/{fresh_room}", {"private": True}, 200)
    assert anonymous.error("GET", path)["code"] == "NOT_FOUND"
    assert anonymous.error("GET", path, params={"channel": address})["number"] == 404


def test_only_a_manager_erases(alice: Rest, bob: Rest, admin: Rest, fresh_room: str) -> None:
    path = f"channels/{fresh_room}:a/messages"
    alice.ok("POST", path, {"message": "a text"})
    # Its sender may delete it, and the law is for managers.
    for caller in (alice, bob):
        assert caller.error("POST", f"{path}/1/erase")["code"] == "FORBIDDEN"
        assert caller.error("POST", f"{path}/2/erase")["code"] == "FORBIDDEN"
    assert alice.get(f"{path}/1")["message"] == "a text"
    assert admin.error("POST", f"{path}/2/erase")["code"] == "MESSAGE_NOT_FOUND"
    assert admin.error("POST", f"channels/{fresh_room}:b/messages/1/erase")["code"] == "CHANNEL_NOT_FOUND"
    assert admin.ok("POST", f"{path}/1/erase", status=200)["messages"] == 1
    assert (alice.get(f"{path}/1")["erased"], "a text" in alice("GET", path).text) == (True, False)
    assert admin.ok("POST", f"{path}/1/erase", status=200)["messages"] == 0
