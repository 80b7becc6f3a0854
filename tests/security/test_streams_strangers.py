"""A stranger among streamed messages: what it may not see, end, own or fill, and what is withdrawn in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError, new_id
from tests.harness.events import EventListener
from tests.harness.growing import Watch
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.reliability.growing import assert_nothing_is_open, ends_kept
from tests.reliability.traffic import query
from tests.security.conftest import Console
from tests.security.test_attacks import bearer, rest
from tests.security.test_limits import flood


async def opened(client: WireClient, room: str, channel: str = "talk", mode: str = "text", **fields: Any) -> str:
    """Open a stream; its uid."""
    of = new_id()
    await client.publish(ack=True, message_id=of, room=room, channel=channel, stream={"mode": mode}, **fields)
    return of


async def append(client: WireClient, of: str, n: int, delta: str | None = "word ", **fields: Any) -> dict[str, Any]:
    """Append a part; its ack. Raises WireError."""
    return await client.publish(type="append", of=of, n=n, delta=delta, ack=True, **fields)


async def code_of(attempt: Any) -> str:
    """The error's code of something that is refused."""
    with pytest.raises(WireError) as refused:
        await attempt
    return refused.value.code


# --- what a stranger may not see ------------------------------------------------------------------------------------------


async def test_a_stream_of_a_private_room_is_for_a_stranger_as_none(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.private_room(fresh_room, "plans")
    token = console.token(f"planner {fresh_room}")
    for action in ("join", "publish", "history"):
        console.grant("token", f"planner {fresh_room}", action, f"{fresh_room}:*")
    owner = await wire(public_server, token=token, room=f"{fresh_room}:plans")

    async def may_publish() -> bool:
        with suppress(WireError):
            await owner.publish("hello", ack=True, room=fresh_room, channel="plans")
            return True
        return False

    # The grants came one after the other, and the server may not know yet of the last ones.
    await wait_for(may_publish, "the owner may publish")
    of, none = await opened(owner, fresh_room, "plans"), new_id()
    await append(owner, of, 1, "secret ")
    stranger = await wire(public_server)

    async def asked(uid: str) -> list[tuple[str, str]]:
        answers = []
        frames: list[dict[str, Any]] = [
            {"type": "append", "of": uid, "n": 2, "delta": "x"},
            {"type": "append", "of": uid, "n": 1, "end": "complete"},
            {"type": "event", "room": "lab", "channel": "talk", "message": "hm", "steer": uid},
        ]
        for frame in frames:
            with pytest.raises(WireError) as refused:
                await stranger.publish(ack=True, **frame)
            answers.append((refused.value.code, str(refused.value)))
        for command in ("stop_stream", "adopt_stream"):
            error = (await stranger.command(command, of=uid))["error"]
            answers.append((error["code"], error["message"]))
        nobody = console.token(f"nobody {uid}")
        with rest(public_server, **bearer(nobody)) as caller:
            for method, path in (
                *[("GET", ""), ("POST", "/append"), ("POST", "/end"), ("POST", "/stop"), ("POST", "/adopt")],
                *[("GET", "/events?as=parts"), ("GET", "/events?as=agui"), ("GET", "/events?as=vercel")],
            ):
                body = {"n": 1, "delta": "x"} if method == "POST" and path in ("/append", "/end") else None
                answer = await asyncio.to_thread(caller.request, method, f"streams/{uid}{path}", json=body)
                answers.append((str(answer.status_code), answer.text))
        return answers

    there, absent = await asked(of), await asked(none)
    assert [(code, text.replace(of, "?")) for code, text in there] == [
        (code, text.replace(none, "?")) for code, text in absent
    ]
    assert "secret" not in json.dumps([there, stranger.frames])
    assert (await append(owner, of, 2, end="complete"))["seq"]


async def test_parts_of_a_private_message_reach_its_target_alone(
    wire: Connect, public_server: BusServer, fresh_room: str
) -> None:
    watch = Watch("target")
    target = await wire(public_server, client_id=f"target-{fresh_room}", room=f"{fresh_room}:hall", recorder=watch)
    third = await wire(public_server, room=f"{fresh_room}:hall")
    owner = await wire(public_server, room=f"{fresh_room}:hall")
    of = new_id()
    private: dict[str, Any] = {"type": "private", "to": [target.client_id]}
    await owner.publish("psst", ack=True, message_id=of, stream={"mode": "text"}, **private)
    for n in range(1, 4):
        await append(owner, of, n, f"{n} ")
    await append(owner, of, 3, None, end="complete")
    end = await target.expect(type="stream_end", of=of)
    assert (end["message"], watch.growth(of).appends, watch.growth(of).problems) == ("1 2 3 ", 3, [])
    await third.expect_nothing(predicate=lambda frame: of in json.dumps(frame), after=[owner])
    # A third that guesses its id can neither stop nor steer what grows between others. The target can.
    of = new_id()
    await owner.publish("psst", ack=True, message_id=of, stream={"mode": "text"}, **private)
    for command in ("stop_stream", "adopt_stream"):
        assert (await third.command(command, of=of))["error"]["code"] == "STREAM_NOT_FOUND", command
    assert await code_of(third.publish("hm", ack=True, steer=of, **private)) == "STREAM_NOT_FOUND"
    assert await code_of(append(third, of, 1)) == "STREAM_NOT_FOUND"
    assert (await target.publish("hm", ack=True, steer=of, **private))["steered"] is True
    await owner.expect(event="steer")
    assert (await target.request("stop_stream", of=of))["stopping"] is True
    await owner.expect(event="stop_requested")
    await append(owner, of, 0, None, end="complete")
    assert (await target.expect(type="stream_end", of=of))["stream"]["state"] == "stopped"
    # And to several at once nothing grows.
    several: dict[str, Any] = {"type": "private", "to": [target.client_id, third.client_id], "stream": {"mode": "text"}}
    assert await code_of(owner.publish("psst", ack=True, **several)) == "VALIDATION_ERROR"


# --- what a stranger may not do -------------------------------------------------------------------------------------------


async def test_nobody_but_its_owner_appends_to_a_stream_or_ends_it(
    wire: Connect, public_server: BusServer, fresh_room: str
) -> None:
    watch = Watch("reader")
    reader = await wire(public_server, room=f"{fresh_room}:talk", recorder=watch)
    owner = await wire(public_server, client_id=f"owner-{fresh_room}", room=f"{fresh_room}:door")
    stranger = await wire(public_server, room=f"{fresh_room}:talk")
    of = await opened(owner, fresh_room)
    await append(owner, of, 1)
    attempts: list[dict[str, Any]] = [
        {"n": 2, "delta": "forged "},
        {"n": 1, "delta": "forged "},
        {"n": 1, "end": "complete"},
        {"n": 2, "delta": "forged ", "end": "aborted", "payload": {}},
        {"n": 2, "delta": "forged ", "token": "guessed"},
    ]
    for attempt in attempts:
        with pytest.raises(WireError) as refused:
            await stranger.publish(type="append", of=of, ack=True, **attempt)
        assert refused.value.code in ("STREAM_LOST", "FORBIDDEN"), attempt
    assert (await stranger.command("adopt_stream", of=of))["error"]["code"] in ("FORBIDDEN", "STREAM_LOST")
    forged: dict[str, Any] = {
        "type": "stream_end",
        "of": of,
        "stream": {"mode": "text", "state": "complete", "parts": 1},
    }
    assert await code_of(stranger.publish("forged", ack=True, room=fresh_room, channel="talk", **forged))
    # Who says that it is the owner is not.
    named: dict[str, Any] = {"type": "append", "of": of, "n": 2, "delta": "forged ", "from": owner.client_id}
    assert await code_of(stranger.publish(ack=True, **named))
    # Nor who opens another stream under its id, here or elsewhere.
    for channel in ("talk", "other"):
        another: dict[str, Any] = {"room": fresh_room, "channel": channel, "stream": {"mode": "text"}, "message_id": of}
        assert await code_of(stranger.publish(ack=True, **another)) == "VALIDATION_ERROR"
    await append(owner, of, 2, end="complete")
    end = await reader.expect(type="stream_end", of=of)
    assert (end["message"], end["from"]) == ("word word ", owner.client_id)
    assert watch.growth(of).problems == []
    assert "forged" not in json.dumps(reader.frames)


@pytest.mark.embedded
async def test_what_is_no_append_stays_what_it_was(wire: Connect, public_server: BusServer, fresh_room: str) -> None:
    reader = await wire(public_server, room=f"{fresh_room}:talk")
    sender = await wire(public_server, room=f"{fresh_room}:talk")
    await sender.publish("mine", ack=True, type="append", room=fresh_room, channel="talk")
    assert (await reader.expect(type="append"))["message"] == "mine"
    for fields in ({"stream": "a text"}, {"stream": 7}, {"steer": "no uid"}, {"steer": 3}, {"of": "x"}):
        await sender.publish(f"{fields}", ack=True, room=fresh_room, channel="talk", **fields)
        frame = await reader.expect(message=f"{fields}")
        assert frame["type"] == "event"
        assert not isinstance(frame.get("stream"), dict)


@pytest.mark.embedded
async def test_malformed_streams_are_refused_and_name_the_field(
    wire: Connect, public_server: BusServer, fresh_room: str
) -> None:
    owner = await wire(public_server, room=f"{fresh_room}:talk")
    for bad in ({"mode": "video"}, {"mode": 7}, {"mode": "text", "more": 1}):
        with pytest.raises(WireError) as refused:
            await owner.publish(ack=True, room=fresh_room, channel="talk", stream=bad)
        assert (refused.value.code, refused.value.details[0]["field"]) == ("VALIDATION_ERROR", "stream"), bad
    of = await opened(owner, fresh_room)
    parts = await opened(owner, fresh_room, mode="parts")
    cases: list[tuple[str, dict[str, Any]]] = [
        ("n", {"of": of, "n": "1", "delta": "x"}),
        ("n", {"of": of, "n": 1.5, "delta": "x"}),
        ("n", {"of": of, "n": True, "delta": "x"}),
        ("n", {"of": of, "n": -1, "delta": "x"}),
        ("n", {"of": of, "n": 0, "delta": "x"}),
        ("n", {"of": of, "n": 10**30, "delta": "x"}),
        ("n", {"of": of, "delta": "x"}),
        ("delta", {"of": of, "n": 1, "delta": 7}),
        ("delta", {"of": of, "n": 1, "delta": ["x"]}),
        ("delta", {"of": of, "n": 1, "delta": "\ud800"}),
        ("part", {"of": parts, "n": 1, "part": "text"}),
        ("part", {"of": parts, "n": 1, "part": [1]}),
        ("end", {"of": of, "n": 0, "end": "exploded"}),
        ("end", {"of": of, "n": 0, "end": 1}),
        ("payload", {"of": of, "n": 0, "end": "complete", "payload": "text"}),
        ("took", {"of": of, "n": 1, "delta": "x", "took": "arq_1"}),
        ("took", {"of": of, "n": 1, "delta": "x", "took": [1]}),
        ("took", {"of": of, "n": 1, "delta": "x", "took": [f"arq_{n}" for n in range(101)]}),
        ("token", {"of": of, "n": 1, "delta": "x", "token": 7}),
    ]
    for field, frame in cases:
        request = new_id()
        await owner.send({"type": "append", "id": request, "ack": True, **frame})
        answer = await owner.expect(request_id=request)
        error = answer.get("error") or {}
        named = [detail.get("field") for detail in error.get("details") or [] if isinstance(detail, dict)]
        assert error.get("code") in ("VALIDATION_ERROR", "INVALID_JSON"), (frame, answer)
        assert error["code"] == "INVALID_JSON" or any(str(name).startswith(field) for name in named), (frame, answer)
    # A part of the other mode, one of both, one of none, and a gap.
    faults: list[tuple[dict[str, Any], set[str]]] = [
        ({"of": of, "n": 1, "part": {}}, {"VALIDATION_ERROR"}),
        ({"of": parts, "n": 1, "delta": "x"}, {"VALIDATION_ERROR"}),
        ({"of": of, "n": 1, "delta": "x", "part": {}}, {"VALIDATION_ERROR"}),
        ({"of": of, "n": 1}, {"VALIDATION_ERROR"}),
        ({"of": of, "n": 2, "delta": "x"}, {"STREAM_GAP"}),
        ({"of": of, "n": 1, "end": "complete"}, {"STREAM_GAP"}),
        ({"of": new_id(), "n": 1, "delta": "x"}, {"STREAM_NOT_FOUND"}),
        ({"of": "x" * 100_000, "n": 1, "delta": "x"}, {"VALIDATION_ERROR", "STREAM_NOT_FOUND"}),
        ({"of": "", "n": 1, "delta": "x"}, {"VALIDATION_ERROR", "STREAM_NOT_FOUND"}),
    ]
    for frame, codes in faults:
        assert await code_of(owner.publish(type="append", ack=True, **frame)) in codes, frame
    # The streams are as they were.
    assert (await append(owner, of, 1))["stream"]["have"] == 1
    assert (await append(owner, of, 1, None, end="complete"))["seq"]
    assert (await owner.publish(type="append", of=parts, n=1, part={"a": 1}, end="stopped", ack=True))["seq"]
    assert await code_of(append(owner, of, 2)) == "STREAM_ENDED"


# --- what a stranger may not fill -----------------------------------------------------------------------------------------


@pytest.mark.embedded
async def test_a_stream_never_outgrows_a_frame_and_can_still_be_ended(
    start_server: StartServer, wire: Connect, storage: Storage
) -> None:
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_FRAME_BYTES": "16384"})
    watch = Watch("reader")
    reader = await wire(server, room="lab:talk", recorder=watch)
    owner = await wire(server, client_id="owner", room="lab:door")
    # What takes six bytes for each character, and what takes none more.
    for piece in ("\x01" * 100, "x" * 1000, "\U0001f600" * 50):
        of = await opened(owner, "lab")
        n, refused = 0, ""
        while not refused:
            try:
                await append(owner, of, n + 1, piece)
                n += 1
            except WireError as error:
                refused = error.code
        assert refused == "FRAME_TOO_LARGE"
        assert n > 5
        # A smaller one may still have room; that it was refused changed nothing.
        await append(owner, of, n, None, end="complete", payload={"why": "full"})
        end = await reader.expect(type="stream_end", of=of)
        assert end["message"] == piece * n
        assert len(json.dumps(end, ensure_ascii=False)) <= 16384 + 1024
    assert [problem for growth in watch.growths.values() for problem in growth.problems] == []
    # The payload of the end counts too.
    of = await opened(owner, "lab")
    await append(owner, of, 1, "x" * 10_000)
    assert await code_of(append(owner, of, 1, None, end="complete", payload={"x": "y" * 10_000})) == "FRAME_TOO_LARGE"
    await append(owner, of, 1, None, end="complete")
    assert_nothing_is_open(storage)


async def test_one_client_has_so_many_open_streams_and_no_more(start_server: StartServer, wire: Connect) -> None:
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_STREAMS": "3"})
    owner = await wire(server, client_id="owner", room="lab:door")
    streams = [await opened(owner, "lab", f"talk-{n}") for n in range(3)]
    assert await code_of(opened(owner, "lab", "talk-9")) == "LIMIT_REACHED"
    # Many openings at once are no way around it.
    asked = [opened(owner, "lab", f"more-{n}") for n in range(20)]
    assert all(isinstance(answer, WireError) for answer in await asyncio.gather(*asked, return_exceptions=True))
    # Nor is another connection of the same client.
    async with await owner.reconnect() as again:
        assert await code_of(opened(again, "lab", "talk-9")) == "LIMIT_REACHED"
        await append(again, streams[0], 0, None, end="stopped")
        await opened(again, "lab", "talk-9")


@pytest.mark.embedded
async def test_parts_count_as_frames_of_their_sender(start_server: StartServer, wire: Connect) -> None:
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_RATE_LIMIT": "20"})
    owner = await wire(server, client_id="owner", room="lab:door")
    of = await opened(owner, "lab")
    part = json.dumps({"type": "append", "of": of, "n": 1, "delta": "x"})
    assert await flood(owner, part, 20_000) != 1000


async def test_steers_that_nobody_takes_are_bounded(start_server: StartServer, storage: Storage, wire: Connect) -> None:
    """Whoever may publish may steer: the list in the end must not outgrow what a member takes."""
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_FRAME_BYTES": "16384"})
    reader = await wire(server, room="lab:talk")
    owner = await wire(server, client_id="owner", room="lab:door")
    steerer = await wire(server, client_id="steerer", room="lab:door")
    of = await opened(owner, "lab")
    sent = [
        steerer.publish("hm", ack=True, message_id=new_id(), room="lab", channel="talk", steer=of, timeout=60)
        for _ in range(2000)
    ]
    answers = await asyncio.gather(*sent, return_exceptions=True)
    refused = {answer.code for answer in answers if isinstance(answer, WireError)}
    assert refused <= {"LIMIT_REACHED"}
    await append(owner, of, 0, None, end="complete")
    end = await reader.expect(type="stream_end", of=of, timeout=60)
    kept = [answer for answer in answers if isinstance(answer, dict) and answer["steered"]]
    assert len(end["untaken"]) == len(kept)
    assert len(json.dumps(end)) <= 65536
    assert_nothing_is_open(storage)


@pytest.mark.embedded
async def test_who_joins_many_long_streams_and_does_not_read_fills_no_memory(
    start_server: StartServer, wire: Connect
) -> None:
    server = await asyncio.to_thread(start_server)
    # 60 streams of 200,000 bytes: a member that comes gets 12 MB.
    text = "x" * 50_000
    watch = Watch("reader")
    of: list[str] = []
    for number in range(3):
        owner = await wire(server, client_id=f"owner-{number}", room="lab:door")
        for _ in range(20):
            of.append(await opened(owner, "lab"))
            for n in range(1, 5):
                await append(owner, of[-1], n, text, timeout=60)
    async with await WireClient.connect(server.url, room="lab:talk", recorder=watch) as reader:
        for uid in of:
            await reader.expect(type="append", of=uid, timeout=60)
    before = server.rss()
    stuck = []
    for _ in range(20):
        client = await wire(server, room="lab:door")
        client.pause_reading()
        # Also who asks again and again.
        for _ in range(5):
            for command in ("join_channel", "leave_channel"):
                with contextlib.suppress(Exception):
                    await client.send(client.command_frame(command, {"room": "lab", "channel": "talk"}, new_id()))
        stuck.append(client)
    async with await WireClient.connect(server.url, room="lab:talk", recorder=Watch("another")) as reader:
        for uid in of:
            await reader.expect(type="append", of=uid, timeout=60)
        await reader.ping(timeout=60)
    # 20 members of at most 1 MiB each, what is read once for all of them, and the allocator's share.
    assert server.rss() - before < 30 * 2**20
    for client in stuck:
        await client.cut()


# --- what is withdrawn in the middle --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def listening(
    server: BusServer, of: str, token: str
) -> AsyncIterator[tuple[EventListener, list[tuple[str, str]]]]:
    """A listener of a stream's events, and what came."""
    events: list[tuple[str, str]] = []

    def take(name: str, data: str) -> bool:
        events.append((name, data))
        return name == "closed"

    listener = EventListener([server], f"/api/v1/streams/{of}/events?as=parts", take, headers=bearer(token))
    task = asyncio.ensure_future(listener.run())
    try:
        yield listener, events
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_right_that_is_withdrawn_ends_the_parts_for_member_listener_and_owner(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.private_room(fresh_room, "talk")
    names = [f"{who} {fresh_room}" for who in ("owner", "reader", "listener", "stays")]
    tokens = [console.token(name) for name in names]
    grants: dict[str, int] = {}
    for name in names:
        for action in ("join", "history", "publish"):
            grants[f"{name}/{action}"] = console.grant("token", name, action, f"{fresh_room}:*")
    owner = await wire(public_server, token=tokens[0])
    reader = await wire(public_server, token=tokens[1], room=f"{fresh_room}:talk")
    stays = await wire(public_server, token=tokens[3], room=f"{fresh_room}:talk")
    of = await opened(owner, fresh_room)
    async with listening(public_server, of, tokens[2]) as (_, events):
        await append(owner, of, 1, "before ")
        for member in (reader, stays):
            await member.expect(type="append", of=of, n=1)
        await wait_for(lambda: any("before" in data for _, data in events), "the listener has the first part")
        for name in (names[1], names[2]):
            for action in ("join", "history", "publish"):
                console.revoke(grants[f"{name}/{action}"])
        await reader.expect(event="unsubscribed")
        await wait_for(lambda: events[-1][0] == "closed", "the listener is told")
        await append(owner, of, 2, "after ")
        await stays.expect(type="append", of=of, n=2)
        await reader.expect_nothing(type="append", of=of, n=2, after=[owner])
        assert "after" not in json.dumps(events)
        with rest(public_server, **bearer(tokens[2])) as caller:

            async def hidden() -> bool:
                return (await asyncio.to_thread(caller.get, f"streams/{of}")).status_code == 404

            # The listener was told of the first of three rights; the server may not know yet of the last one.
            await wait_for(hidden, "the stream is hidden from whom it is not for")
    console.revoke(grants[f"{names[0]}/publish"])
    refused = ""
    n = 2
    async with asyncio.timeout(20):
        # Where no notification tells of it, it is found by the next look.
        while not refused:
            try:
                n += 1
                await append(owner, of, n, "forbidden ")
            except WireError as error:
                refused = error.code
    assert refused in ("FORBIDDEN", "STREAM_LOST", "STREAM_NOT_FOUND")
    # Who may still publish there may end it for the owner.
    assert (await stays.command("stop_stream", of=of))["status"] == "success"


# --- half-open owners -----------------------------------------------------------------------------------------------------


async def test_a_stream_that_its_owner_forgets_is_ended(
    start_server: StartServer, storage: Storage, wire: Connect
) -> None:
    """An owner that is there and says nothing, one over REST, one that was asked to stop, one that is gone: none stays open."""
    env = {
        "ARQONBUS_STREAM_GRACE": "1",
        "ARQONBUS_STREAM_REST_GRACE": "1",
        "ARQONBUS_STREAM_IDLE": "1",
    }
    server = await asyncio.to_thread(start_server, env=env)
    token = await asyncio.to_thread(server.create_token, "poster")
    watch = Watch("reader")
    reader = await wire(server, room="lab:talk", recorder=watch)
    silent = await wire(server, client_id="silent", room="lab:door")
    gone = await wire(server, client_id="gone", room="lab:door")
    deaf = await wire(server, client_id="deaf", room="lab:door")
    uids: dict[str, str] = {
        "silent": await opened(silent, "lab"),
        "gone": await opened(gone, "lab"),
        "deaf": await opened(deaf, "lab"),
    }
    with rest(server, **bearer(token)) as caller:
        body: dict[str, Any] = {"id": new_id(), "stream": {"mode": "text"}}
        answer = await asyncio.to_thread(caller.post, "channels/lab:talk/messages", json=body)
        assert answer.status_code == 201, answer.text
        uids["rest"] = body["id"]
    for client, name in ((silent, "silent"), (gone, "gone"), (deaf, "deaf")):
        await append(client, uids[name], 1, f"{name} ")
    await gone.cut()
    assert (await reader.request("stop_stream", of=uids["deaf"]))["stopping"] is True
    await deaf.expect(event="stop_requested")
    for of in uids.values():
        await reader.expect(type="stream_end", of=of, timeout=60)
    states = {name: watch.growth(of).state for name, of in uids.items()}
    assert states == {"silent": "aborted", "gone": "aborted", "deaf": "stopped", "rest": "aborted"}
    assert [problem for growth in watch.growths.values() for problem in growth.problems] == []
    assert {of: len(ends) for of, ends in ends_kept(storage).items()} == dict.fromkeys(uids.values(), 1)
    assert_nothing_is_open(storage)
    # The owner that comes too late is told.
    assert await code_of(append(silent, uids["silent"], 2)) == "STREAM_ENDED"
    assert query(storage, "SELECT COUNT(*) FROM bus_stream")[0][0] == 4
