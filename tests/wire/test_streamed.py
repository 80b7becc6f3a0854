"""Streamed messages over a real socket: openings, parts, ends and steers, and what is answered to wrong ones."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer

DEADLINE = 20.0


class Owner:
    """A connection that opens streams and appends to them."""

    def __init__(self, client: WireClient, of: str | None = None) -> None:
        self.client = client
        self.of = of or f"arq_{secrets.token_hex(6)}"

    async def open(self, mode: str | None = None, **fields: Any) -> dict[str, Any]:
        """Open the stream; returns the ack."""
        stream = {} if mode is None else {"mode": mode}
        return await self.client.publish(message_id=self.of, stream=stream, ack=True, timeout=DEADLINE, **fields)

    async def append(self, n: int, delta: str | None = None, **keys: Any) -> dict[str, Any]:
        """Append and wait for the answer. Raises WireError."""
        frame = self.frame(n, delta, **{"id": f"arq_{secrets.token_hex(6)}", **keys})
        await self.client.send(frame)
        answer = await self.client.expect(predicate=lambda got: got.get("request_id") == frame["id"], timeout=DEADLINE)
        if answer["type"] == "error":
            raise WireError(answer)
        return answer

    def frame(self, n: int, delta: str | None = None, **keys: Any) -> dict[str, Any]:
        """The frame of an append, in the client's dialect."""
        head = {"version": "1.0"} if self.client.dialect == "v1" else {}
        content = {} if delta is None else {"delta": delta}
        return {**head, "type": "append", "of": self.of, "n": n, **content, "ack": True, **keys}


async def refused(answer: Any) -> dict[str, Any]:
    """The error that a request gets."""
    with pytest.raises(WireError) as caught:
        await answer
    error: dict[str, Any] = caught.value.frame["error"]
    return error


async def test_a_text_grows_in_both_dialects(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    owner = Owner(await wire(shared_server, dialect=dialect, room=fresh_room, channel="a"))
    reader = await wire(shared_server, room=fresh_room, channel="a")
    ack = await owner.open(payload={"role": "assistant"})
    of = owner.of
    assert (ack["seq"], ack["stream"]) == (1, {"of": of, "have": 0, "state": "open", "attempt": 1})
    opening = await reader.expect("event", timeout=DEADLINE)
    assert (opening["id"], opening["stream"], opening["payload"]) == (of, {"mode": "text"}, {"role": "assistant"})
    ack = await owner.append(1, 'Hé\n"l')
    assert (ack["seq"], ack["stream"]["have"], "duplicate" in ack) == (None, 1, False)
    part = await reader.expect("append", timeout=DEADLINE)
    assert part == {"type": "append", "room": fresh_room, "channel": "a", "of": of, "n": 1, "delta": 'Hé\n"l'}
    ack = await owner.append(2, "lo", end="complete", payload={"usage": 5})
    assert (ack["seq"], ack["stream"]) == (2, {"of": of, "have": 2, "state": "complete", "attempt": 1})
    assert (await reader.expect("append", timeout=DEADLINE))["n"] == 2
    end = await reader.expect("stream_end", timeout=DEADLINE)
    assert (end["seq"], end["of"], end["of_seq"], end["untaken"], end["from"]) == (2, of, 1, [], owner.client.client_id)
    assert end["stream"] == {"mode": "text", "state": "complete", "parts": 2}
    assert (end["message"], end["payload"]) == ('Hé\n"llo', {"usage": 5})
    history = await reader.request("history", room=fresh_room, channel="a")
    assert history["messages"] == [opening, end]
    await owner.client.expect_nothing("append")
    await owner.client.expect_nothing("stream_end")


async def test_a_list_grows_by_objects(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    owner = Owner(await wire(shared_server, room=fresh_room, channel="a"))
    reader = await wire(shared_server, room=fresh_room, channel="a")
    await owner.open("parts")
    parts: list[dict[str, Any]] = [{"type": "RUN_STARTED"}, {"type": "TEXT", "delta": "x", "n": [1, {"y": None}]}]
    for n, part in enumerate(parts, 1):
        await owner.append(n, part=part)
        assert (await reader.expect("append", timeout=DEADLINE))["part"] == part
    await owner.append(2, end="stopped", id="arq_my_end")
    end = await reader.expect("stream_end", timeout=DEADLINE)
    assert (end["id"], end["parts"], "message" in end) == ("arq_my_end", parts, False)
    assert end["stream"] == {"mode": "parts", "state": "stopped", "parts": 2}


async def test_an_opening_and_its_parts_may_be_sent_at_once(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    """Also in a channel that the opening makes, while its commit has not begun."""
    client = await wire(shared_server, room=fresh_room, channel="a")
    reader = await wire(shared_server, room=fresh_room, channel="new")
    owners = [Owner(client, f"answer-{fresh_room}-{number}") for number in range(3)]
    for owner in owners:
        owner.of = f"arq_{owner.of}"
        opening = {"type": "event", "id": owner.of.removeprefix("arq_"), "channel": "new", "stream": {}}
        await client.send(opening)
        for n in range(1, 21):
            await client.send(owner.frame(n, f"{n} ", ack=False))
        await client.send(owner.frame(21, "end", end="complete", id=f"end of {owner.of}"))
    for owner in owners:
        ack = await client.expect("ack", request_id=f"end of {owner.of}", timeout=DEADLINE)
        assert ack["stream"] == {"of": owner.of, "have": 21, "state": "complete", "attempt": 1}
        end = await reader.expect("stream_end", of=owner.of, timeout=DEADLINE)
        assert end["message"] == "".join(f"{n} " for n in range(1, 21)) + "end"
    assert not [frame for frame in client.frames if frame["type"] == "error"]


async def test_a_private_answer_grows_in_the_inbox(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    owner = Owner(await wire(shared_server, room=fresh_room))
    reader = await wire(shared_server, room=fresh_room)
    ack = await owner.open(type="private", to=reader.client_id)
    assert (ack["room"], ack["channel"], ack["stream"]["have"]) == ("pm", reader.client_id, 0)
    await owner.append(1, "psst")
    await owner.append(1, end="complete")
    assert (await reader.expect("private", timeout=DEADLINE))["stream"] == {"mode": "text"}
    assert (await reader.expect("append", timeout=DEADLINE))["delta"] == "psst"
    assert (await reader.expect("stream_end", timeout=DEADLINE))["message"] == "psst"
    other = await wire(shared_server, room=fresh_room)
    error = await refused(
        owner.client.publish(type="private", to=[reader.client_id, other.client_id], stream={}, ack=True)
    )
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "stream")


async def test_repeats_are_done_and_gaps_are_named(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    owner = Owner(await wire(shared_server, room=fresh_room, channel="a"))
    reader = await wire(shared_server, room=fresh_room, channel="a")
    await owner.open()
    again = await owner.open()
    assert (again["duplicate"], again["seq"], again["stream"]["have"]) == (True, 1, 0)
    await owner.append(1, "a")
    repeated = await owner.append(1, "something else")
    assert (repeated["duplicate"], repeated["stream"]["have"]) == (True, 1)
    for n in (3, 10**9, 2**53 - 1):
        error = await refused(owner.append(n, "x"))
        assert (error["code"], error["details"][0]["of"], error["details"][0]["have"]) == ("STREAM_GAP", owner.of, 1)
    assert (await refused(owner.append(0, end="complete")))["code"] == "STREAM_GAP"
    assert (await refused(owner.append(2, part={})))["details"][0]["field"] == "part"
    first = await owner.append(2, "b", end="aborted", id="the-end")
    second = await owner.append(2, "b", end="aborted", id="the-end")
    assert (second["duplicate"], second["seq"], second["stream"]) == (True, first["seq"], first["stream"])
    error = await refused(owner.append(3, "late"))
    assert (error["code"], error["details"][0]) == (
        "STREAM_ENDED", {"of": owner.of, "have": 2, "state": "aborted"},
    )  # fmt: skip
    assert (await reader.expect("stream_end", timeout=DEADLINE))["message"] == "ab"
    # The id of the opening names the stream on the whole bus.
    taken = await wire(shared_server, room=fresh_room, channel="b")
    error = await refused(Owner(taken, owner.of).open())
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "id")


async def test_keys_that_are_no_stream_stay_the_senders_own(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    sender = await wire(shared_server, room=fresh_room, channel="a")
    reader = await wire(shared_server, room=fresh_room, channel="a")
    await sender.publish("x", stream="s1", steer="left", of="arq_a1", ack=True)
    frame = await reader.expect("event", timeout=DEADLINE)
    assert frame["metadata"] == {"stream": "s1", "steer": "left", "of": "arq_a1"}
    await sender.send({"type": "append", "message": "an event of my own type", "n": 1})
    frame = await reader.expect("append", timeout=DEADLINE)
    assert (frame["message"], frame["metadata"], frame["seq"]) == ("an event of my own type", {"n": 1}, 2)


async def test_a_steer_reaches_the_owner_and_is_taken_or_left(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    owner = Owner(await wire(shared_server, dialect=dialect, room=fresh_room, channel="a"))
    reader = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    await owner.open()
    uids = []
    for text in ("shorter", "in French"):
        ack = await reader.publish(text, steer=owner.of, ack=True, message_id=f"arq_{secrets.token_hex(5)}")
        assert ack["steered"] is True
        notice = await owner.client.expect("system", "steer", timeout=DEADLINE)
        assert (notice["room"], notice["channel"], notice["payload"]["of"]) == (fresh_room, "a", owner.of)
        message = notice["payload"]["message"]
        assert (message["message"], message["steer"], message["seq"]) == (text, owner.of, ack["seq"])
        assert (await owner.client.expect("event", timeout=DEADLINE)) == message
        uids.append(message["id"])
    await owner.append(1, "d'accord", took=[uids[1]])
    await owner.append(1, end="complete")
    end = await reader.expect("stream_end", timeout=DEADLINE)
    assert end["untaken"] == [uids[0]]
    late = await reader.publish("too late", steer=owner.of, ack=True)
    assert (late["steered"], late["seq"]) == (False, end["seq"] + 1)
    error = await refused(reader.publish("x", steer="arq_nothing", ack=True))
    assert (error["code"], error["details"]) == ("STREAM_NOT_FOUND", [{"of": "arq_nothing"}])
    error = await refused(reader.publish("x", channel="b", steer=owner.of, ack=True))
    assert error["code"] == "STREAM_NOT_FOUND"
    error = await refused(reader.publish("x", steer=owner.of, stream={}, ack=True))
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "steer")


async def test_a_stop_reaches_the_owner_whose_end_is_then_stopped(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    owner = Owner(await wire(shared_server, dialect=dialect, room=fresh_room, channel="a"))
    reader = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    await owner.open()
    await owner.append(1, "Once upon")
    answer = await reader.request("stop_stream", of=owner.of)
    assert answer == {"of": owner.of, "state": "open", "have": 1, "stopping": True}
    notice = await owner.client.expect("system", "stop_requested", timeout=DEADLINE)
    assert notice["payload"] == {"event": "stop_requested", "of": owner.of}
    assert (await owner.append(2, " a time"))["stream"]["stopping"] is True
    ack = await owner.append(2, end="complete")
    assert ack["stream"] == {"of": owner.of, "have": 2, "state": "stopped", "attempt": 1}
    end = await reader.expect("stream_end", timeout=DEADLINE)
    assert (end["stream"]["state"], end["message"]) == ("stopped", "Once upon a time")
    answer = await reader.request("stop_stream", of=owner.of)
    assert answer == {"of": owner.of, "state": "stopped", "have": 2, "stopping": False}


async def test_an_adoption_takes_the_stream_from_its_owner(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    token = shared_server.create_token(f"agent {fresh_room}")
    old, new = [await wire(shared_server, room=fresh_room, channel="a", token=token) for _ in range(2)]
    reader = await wire(shared_server, room=fresh_room, channel="a")
    owner = Owner(old)
    await owner.open()
    await owner.append(1, "first try")
    others: list[dict[str, Any]] = [{"channel": "b"}, {"room": f"{fresh_room}:b"}, {"room": fresh_room}]
    for elsewhere in others:
        error = await refused(new.request("adopt_stream", of=owner.of, keep=False, **elsewhere))
        assert error["code"] == "STREAM_NOT_FOUND"
    adopted = await new.request("adopt_stream", of=owner.of, room=fresh_room, channel="a")
    assert (adopted["of"], adopted["mode"], adopted["have"], adopted["attempt"]) == (owner.of, "text", 1, 2)
    heir = Owner(new, owner.of)
    ack = await heir.append(2, ", goes on", token=adopted["token"])
    assert ack["stream"] == {"of": owner.of, "have": 2, "state": "open", "attempt": 2}
    assert (await refused(heir.append(3, "x")))["code"] == "STREAM_LOST"
    assert (await refused(owner.append(3, "x")))["code"] == "STREAM_LOST"
    again = await new.request("adopt_stream", of=owner.of, keep=False)
    assert (again["have"], again["attempt"]) == (0, 3)
    snapshot = await reader.expect("append", predicate=lambda frame: frame.get("upto") == 0, timeout=DEADLINE)
    assert (snapshot["text"], snapshot["attempt"], snapshot["mode"]) == ("", 3, "text")
    await heir.append(1, "second try", token=again["token"], end="complete")
    assert (await reader.expect("stream_end", timeout=DEADLINE))["message"] == "second try"
    error = await refused(new.request("adopt_stream", of=owner.of))
    assert error["code"] == "STREAM_ENDED"
    assert (await refused(reader.request("adopt_stream", of=owner.of)))["code"] in ("FORBIDDEN", "STREAM_ENDED")


async def test_who_joins_gets_one_frame_for_the_past_unless_it_wants_no_parts(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    owner = Owner(await wire(shared_server, room=fresh_room, channel="a"))
    await owner.open()
    for n in range(1, 6):
        await owner.append(n, f"{n}")
    late = await wire(shared_server, room=fresh_room, channel="b")
    bare = await wire(shared_server, room=fresh_room, channel="b")
    await late.join(fresh_room, "a", since=0)
    await bare.join(fresh_room, "a", since=0, parts=False)
    snapshot = await late.expect("append", timeout=DEADLINE)
    assert (snapshot["snapshot"], snapshot["upto"], snapshot["text"]) == (True, 5, "12345")
    await owner.append(6, "6")
    assert (await late.expect("append", timeout=DEADLINE))["n"] == 6
    await owner.append(6, end="complete")
    for client in (late, bare):
        assert (await client.expect("stream_end", timeout=DEADLINE))["message"] == "123456"
    assert not [frame for frame in bare.frames if frame["type"] == "append"]


async def test_history_folds_a_stream_into_one_message(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    owner = Owner(await wire(shared_server, dialect=dialect, room=fresh_room, channel="a"))
    await owner.open(payload={"role": "assistant"})
    await owner.append(1, "Hello")
    await owner.client.publish("between", ack=True)
    (growing, between) = (await owner.client.request("history", channel="a", fold=True))["messages"]
    assert growing["stream"] == {"mode": "text", "state": "open", "parts": 1} | (
        {"end_seq": None} if "end_seq" in growing["stream"] else {}
    )
    assert (growing["message"], growing["payload"]) == ("Hello", {"role": "assistant"})
    await owner.append(1, end="complete", payload={"usage": 1})
    folded = (await owner.client.request("history", channel="a", fold=True))["messages"]
    assert [message["id"] for message in folded] == [owner.of, between["id"]]
    assert folded[0]["stream"] == {"mode": "text", "state": "complete", "parts": 1, "end_seq": 3}
    assert (folded[0]["message"], folded[0]["end_payload"]) == ("Hello", {"usage": 1})
    assert len((await owner.client.request("history", channel="a"))["messages"]) == 3


async def test_streams_have_limits(start_server: StartServer, wire: Connect, fresh_room: str) -> None:
    server = start_server(env={"ARQONBUS_STREAMS": "2", "ARQONBUS_FRAME_BYTES": "4096"})
    client = await wire(server, room=fresh_room, channel="a")
    reader = await wire(server, room=fresh_room, channel="a")
    first, second, third = (Owner(client) for _ in range(3))
    await first.open()
    await second.open()
    error = await refused(third.open())
    assert (error["code"], error["number"]) == ("LIMIT_REACHED", 429)
    await first.append(1, "a" * 2000)
    error = await refused(first.append(2, "b" * 2000))
    assert error["code"] == "FRAME_TOO_LARGE"
    # The stream stays open, and what fits goes on.
    await first.append(2, "c" * 1000, end="complete")
    assert (await reader.expect("stream_end", timeout=DEADLINE))["message"] == "a" * 2000 + "c" * 1000
    await third.open()
    # An ephemeral channel keeps nothing, so nothing can grow there.
    admin = await wire(server, token=server.create_token("admin", admin=True))
    await admin.request("create_channel", room=fresh_room, channel="fleeting", ephemeral=True)
    error = await refused(Owner(reader).open(channel="fleeting"))
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "stream")
    assert (await refused(reader.publish("x", channel="fleeting", steer=second.of, ack=True)))[
        "code"
    ] == "STREAM_NOT_FOUND"
