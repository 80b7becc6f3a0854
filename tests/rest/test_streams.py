"""Streamed messages over REST: what owners do, what followers get in each form, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.rest.conftest import CallAs, Rest
from tests.rest.test_events import DEADLINE, Event, Reader, streams

# What depends on the database is tested on both in tests/reliability and tests/log.
pytestmark = pytest.mark.embedded

FORMS = ("parts", "agui", "vercel")
#: What an owner may send to a stream, each with a good body.
BODIES: dict[str, Any] = {"append": {"n": 1, "delta": "x"}, "end": {"n": 0}, "stop": {}, "adopt": {}}


class Owner:
    """The owner of one stream."""

    def __init__(self, rest: Rest, room: str, mode: str = "text", **message: Any) -> None:
        self.rest = rest
        body = {"stream": {"mode": mode}, "payload": {"role": "assistant"}, **message}
        self.opened = rest.ok("POST", f"channels/{room}:a/messages", body)
        self.of: str = self.opened["stream"]["of"]
        self.n = 0

    def say(self, part: Any, **more: Any) -> Any:
        self.n += 1
        content = {"delta": part} if isinstance(part, str) else {"part": part}
        return self.rest.ok("POST", f"streams/{self.of}/append", {"n": self.n, **content, **more}, status=200)

    def end(self, **more: Any) -> Any:
        return self.rest.ok("POST", f"streams/{self.of}/end", {"n": self.n, **more}, status=200)

    def refused(self, verb: str, body: Any) -> dict[str, Any]:
        return self.rest.error("POST", f"streams/{self.of}/{verb}", body)


@contextlib.asynccontextmanager
async def following(
    server: BusServer, of: str, form: str, *, token: str | None = None, last: str | None = None, method: str = "GET"
) -> AsyncIterator[Reader]:
    """The events of a stream, which must open."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if last is not None:
        headers["Last-Event-ID"] = last
    address = f"{server.http_url}/api/v1/streams/{of}/events?as={form}"
    async with (
        httpx.AsyncClient(timeout=DEADLINE, trust_env=False) as client,
        client.stream(method, address, headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers.get("x-vercel-ai-ui-message-stream") == ("v1" if form == "vercel" else None)
        yield Reader(response)


async def rest_of(reader: Reader) -> list[Any]:
    """The data of all events until the answer ends. `[DONE]` is left out."""
    found = []
    with contextlib.suppress(StopAsyncIteration, ValueError):
        while True:
            found.append((await reader.next()).data)
    return found


def text_in(events: list[Any]) -> str:
    return "".join(event.get("delta", "") for event in events)


# --- owners -----------------------------------------------------------------------------------------------------------------


def test_an_owner_goes_through_a_stream_and_each_step_may_be_repeated(alice: Rest, fresh_room: str) -> None:
    owner = Owner(alice, fresh_room, id=f"run-{fresh_room}")
    assert owner.of == f"arq_run-{fresh_room}"
    assert owner.opened["seq"] == 1
    again = alice.ok(
        "POST",
        f"channels/{fresh_room}:a/messages",
        {"id": f"run-{fresh_room}", "stream": {}, "payload": {}},
        status=200,
    )
    assert (again["duplicate"], again["stream"]["have"]) == (True, 0)
    place = {"of": owner.of, "have": 1, "state": "open", "attempt": 1, "stopping": False, "steers": []}
    assert owner.say("Hel") == place
    assert alice.ok("POST", f"streams/{owner.of}/append", {"n": 1, "delta": "Hel"}, status=200) == place
    gap = owner.refused("append", {"n": 3, "delta": "!"})
    assert (gap["code"], gap["details"][0]["have"]) == ("STREAM_GAP", 1)
    ended = owner.end(n=2, delta="lo", payload={"usage": 2})
    assert (ended["seq"], ended["stream"]["state"], ended["stream"]["have"]) == (2, "complete", 2)
    again = owner.end(n=2, delta="lo", payload={"usage": 2})
    assert (again["seq"], again["duplicate"]) == (2, True)
    late = owner.refused("append", {"n": 3, "delta": "!"})
    assert (late["code"], late["details"][0]["state"]) == ("STREAM_ENDED", "complete")
    shown = alice.get(f"streams/{owner.of}")
    assert shown == {
        "of": owner.of, "room": fresh_room, "channel": "a", "seq": 1, "mode": "text", "state": "complete", "have": 2,
        "attempt": 1, "stopping": False, "steers": 0, "end_seq": 2,
    }  # fmt: skip
    (folded,) = alice.get(f"channels/{fresh_room}:a/messages", fold="1")["results"]
    assert (folded["id"], folded["message"], folded["stream"]["state"]) == (owner.of, "Hello", "complete")
    assert len(alice.get(f"channels/{fresh_room}:a/messages")["results"]) == 2


def test_an_owner_finds_steers_and_a_stop_in_its_answers(alice: Rest, bob: Rest, fresh_room: str) -> None:
    owner = Owner(alice, fresh_room)
    steer = {"steer": owner.of, "message": "Shorter."}
    first = bob.ok("POST", f"channels/{fresh_room}:a/messages", steer)
    assert first["steered"] is True
    (found,) = owner.say("Once ")["steers"]
    assert (found["id"], found["message"]) == (first["id"], "Shorter.")
    assert owner.say("upon ", took=[first["id"]])["steers"] == []
    second = bob.ok("POST", f"channels/{fresh_room}:a/messages", steer)
    stopped = bob.ok("POST", f"streams/{owner.of}/stop", status=200)
    assert (stopped["state"], stopped["stopping"]) == ("open", True)
    assert owner.say("a time")["stopping"] is True
    ended = owner.end()
    assert ended["stream"]["state"] == "stopped"
    end = alice.get(f"channels/{fresh_room}:a/messages/{ended['seq']}")
    assert (end["message"], end["untaken"]) == ("Once upon a time", [second["id"]])
    late = bob.ok("POST", f"channels/{fresh_room}:a/messages", steer)
    assert late["steered"] is False


def test_a_stream_can_be_adopted_by_its_own_identity_only(alice: Rest, bob: Rest, fresh_room: str) -> None:
    owner = Owner(alice, fresh_room)
    owner.say("lost")
    assert bob.error("POST", f"streams/{owner.of}/adopt", {})["code"] == "FORBIDDEN"
    assert bob.error("POST", f"streams/{owner.of}/append", {"n": 2, "delta": "x"})["code"] in (
        "STREAM_LOST",
        "FORBIDDEN",
    )
    other = alice.ok(
        "POST", f"streams/{owner.of}/adopt?client_id=second-{fresh_room[:20]}", {"keep": False}, status=200
    )
    assert (other["have"], other["attempt"], other["mode"]) == (0, 2, "text")
    assert owner.refused("append", {"n": 1, "delta": "x"})["code"] == "STREAM_LOST"
    body = {"n": 1, "delta": "found", "token": other["token"]}
    path = f"streams/{owner.of}/append?client_id=second-{fresh_room[:20]}"
    assert alice.ok("POST", path, body, status=200)["have"] == 1
    assert alice.error("POST", path, {"n": 2, "delta": "x", "token": "wrong"})["code"] == "STREAM_LOST"


def test_bodies_are_checked_and_each_fault_has_the_name_of_its_field(alice: Rest, fresh_room: str) -> None:
    owner = Owner(alice, fresh_room)

    def fields(verb: str, body: Any) -> set[str]:
        error = owner.refused(verb, body)
        assert error["code"] == "VALIDATION_ERROR"
        return {detail["field"] for detail in error["details"]}

    assert fields("append", {"n": 1, "delta": "x", "detla": "x"}) == {"detla"}
    assert fields("append", {"n": "1", "delta": "x"}) == {"n"}
    assert fields("append", {"n": 1}) == {"delta"}
    assert fields("append", {"n": 1, "delta": 5}) >= {"delta"}
    assert fields("append", {"n": 1, "delta": "x", "of": "arq_other"}) == {"of"}
    assert fields("end", {"n": 0, "state": "open"}) == {"state"}
    assert fields("adopt", {"keep": "no"}) == {"keep"}
    assert fields("append", {"n": 1, "part": {"a": 1}})
    assert owner.refused("append", b"[1]")["code"] == "INVALID_JSON"
    assert owner.refused("append", b'{"n":1,"delta":"\\ud800"}')["code"] in ("INVALID_JSON", "VALIDATION_ERROR")
    for verb, body in BODIES.items():
        assert alice.error("POST", f"streams/arq_none-{fresh_room}/{verb}", body)["code"] == "STREAM_NOT_FOUND"
    wrong = alice.error(
        "POST", f"channels/{fresh_room}:a/messages", {"type": "append", "of": owner.of, "n": 1, "delta": "x"}
    )
    assert wrong["details"][0]["field"] == "type"
    assert alice.get(f"streams/{owner.of}")["have"] == 0


def test_the_name_of_a_stream_may_hold_slashes(alice: Rest, shared_server: BusServer, fresh_room: str) -> None:
    owner = Owner(alice, fresh_room, id=f"{fresh_room}/runs/1")
    owner.of = owner.of.replace("/", "%252F")
    assert owner.say("x")["have"] == 1
    assert owner.end()["stream"]["state"] == "complete"
    assert b"stream_end" in shared_server.get(f"/api/v1/streams/{owner.of}/events")[1]


# --- followers --------------------------------------------------------------------------------------------------------------


async def test_a_follower_gets_the_past_the_parts_and_the_end(
    alice: Rest, shared_server: BusServer, plain_secrets: dict[str, str], fresh_room: str
) -> None:
    owner = await asyncio.to_thread(Owner, alice, fresh_room)
    await asyncio.to_thread(owner.say, "Hel")
    async with following(shared_server, owner.of, "parts", token=plain_secrets["bob"]) as reader:
        event = await reader.next()
        assert (event.id, event.name, event.data["text"]) == ("1", "snapshot", "Hel")
        for n, delta in ((2, "lo "), (3, "🐟")):
            await asyncio.to_thread(owner.say, delta)
            event = await reader.next()
            assert (event.id, event.name, event.data["delta"]) == (str(n), "append", delta)
        # What else is published there is not the stream's.
        await asyncio.to_thread(alice.ok, "POST", f"channels/{fresh_room}:a/messages", {"message": "aside"})
        await asyncio.to_thread(owner.end)
        event = await reader.next()
        assert (event.id, event.name, event.data["message"]) == ("3", "stream_end", "Hello 🐟")
        with pytest.raises(StopAsyncIteration):
            await reader.next()
    await wait_for(lambda: asyncio.to_thread(lambda: streams(shared_server) == 0), "the follower is gone")


@pytest.mark.parametrize("form", ["agui", "vercel"])
async def test_a_follower_that_comes_back_gets_the_rest_in_the_middle_and_after_the_end(
    alice: Rest, shared_server: BusServer, fresh_room: str, form: str
) -> None:
    owner = await asyncio.to_thread(Owner, alice, fresh_room)
    await asyncio.to_thread(owner.say, "Hel")
    async with following(shared_server, owner.of, form) as reader:
        seen: list[Event] = []
        while not seen or not seen[-1].id:
            seen.append(await reader.next())
    assert text_in([event.data for event in seen]) == "Hel"
    await asyncio.to_thread(owner.say, "lo ")
    await asyncio.to_thread(owner.say, "W")
    async with following(shared_server, owner.of, form, last=seen[-1].id, method="POST") as reader:
        event = await reader.next()
        assert event.data["delta"] == "lo W"
        await asyncio.to_thread(owner.end, n=4, delta="orld")
        assert text_in(await rest_of(reader)) == "orld"
    for last, text in ((event.id, "orld"), (seen[-1].id, "lo World"), (None, "Hello World")):
        async with following(shared_server, owner.of, form, last=last) as reader:
            assert text_in(await rest_of(reader)) == text


async def test_the_body_of_a_run_is_repeated_and_bounded(anonymous: Rest, fresh_room: str) -> None:
    owner = await asyncio.to_thread(Owner, anonymous, fresh_room)
    owner.end()
    path = f"streams/{owner.of}/events?as=agui"
    for text, number in (("Hi", 200), ("x" * 300_000, 200), ("x" * 4_500_000, 413)):
        question = {"id": "u1", "role": "user", "content": text}
        answer = anonymous("POST", path, {"threadId": "t1", "runId": "r1", "messages": [question], "tools": []})
        assert answer.status_code == number
        if number == 200:
            assert '{"type":"RUN_STARTED","threadId":"t1","runId":"r1"}' in answer.text
    assert '"runId":"arq_' in anonymous("POST", path, {"id": "chat", "messages": []}).text


async def test_another_beginning_of_a_stream_is_seen_as_such(
    alice: Rest, shared_server: BusServer, fresh_room: str
) -> None:
    owner = await asyncio.to_thread(Owner, alice, fresh_room)
    await asyncio.to_thread(owner.say, "lost")
    async with (
        following(shared_server, owner.of, "parts") as frames,
        following(shared_server, owner.of, "agui") as run,
    ):
        assert (await frames.next()).data["text"] == "lost"
        events = [(await run.next()).data for _ in range(3)]
        adopted = await asyncio.to_thread(alice.ok, "POST", f"streams/{owner.of}/adopt", {"keep": False}, status=200)
        snapshot = (await frames.next()).data
        assert (snapshot["upto"], snapshot["text"], snapshot["attempt"]) == (0, "", 2)
        events.append((await run.next()).data)
        assert events[-1]["type"] == "MESSAGES_SNAPSHOT"
        owner.n = 0
        await asyncio.to_thread(owner.say, "found", token=adopted["token"])
        assert (await frames.next()).data["delta"] == "found"
        assert (await run.next()).data["delta"] == "found"


async def test_the_right_to_follow_is_that_of_the_channel_and_ends_with_it(
    admin: Rest, call_as: CallAs, shared_server: BusServer, admin_secret: str, fresh_room: str
) -> None:
    name = f"follower-{fresh_room}"
    token = await asyncio.to_thread(shared_server.create_token, name)
    await asyncio.to_thread(admin.ok, "POST", "rooms", {"room": fresh_room, "private": True})
    owner = await asyncio.to_thread(Owner, admin, fresh_room)
    await asyncio.to_thread(owner.say, "secret")
    stranger = call_as(shared_server, token)
    for path in (f"streams/{owner.of}", f"streams/{owner.of}/events", f"streams/arq_none-{fresh_room}/events"):
        assert stranger.error("GET", path)["code"] == "STREAM_NOT_FOUND"
    rule = {"subject": "token", "subject_name": name, "action": "join", "pattern": fresh_room}
    grant = await asyncio.to_thread(admin.ok, "POST", "grants", rule)
    assert stranger.error("POST", f"streams/{owner.of}/stop", {})["code"] == "FORBIDDEN"
    async with contextlib.AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(following(shared_server, owner.of, form, token=token)) for form in FORMS
        ]
        for reader in readers:
            await reader.next()
        await asyncio.to_thread(admin.ok, "DELETE", f"grants/{grant['id']}", status=204)
        endings = [(await rest_of(reader))[-1] for reader in readers]
        assert endings[0]["error"]["code"] == "REVOKED"
        assert (endings[1]["type"], endings[1]["code"]) == ("RUN_ERROR", "REVOKED")
        assert endings[2]["type"] == "error"
    await asyncio.to_thread(owner.say, " and more")


async def test_a_stream_that_has_ended_needs_the_right_to_history(
    admin: Rest, call_as: CallAs, shared_server: BusServer, fresh_room: str
) -> None:
    name = f"newcomer-{fresh_room}"
    token = await asyncio.to_thread(shared_server.create_token, name)
    owner = await asyncio.to_thread(Owner, admin, fresh_room)
    await asyncio.to_thread(owner.say, "secret")
    rule = {"subject": "token", "subject_name": name, "action": "history", "pattern": f"{fresh_room}:*", "allow": False}
    await asyncio.to_thread(admin.ok, "POST", "grants", rule)
    newcomer = call_as(shared_server, token)
    async with following(shared_server, owner.of, "parts", token=token) as reader:
        assert (await reader.next()).data["text"] == "secret"
        await asyncio.to_thread(owner.end)
        assert (await rest_of(reader))[-1]["type"] == "stream_end"
    assert newcomer.error("GET", f"streams/{owner.of}/events")["code"] == "FORBIDDEN"


async def test_a_stream_in_an_inbox_is_followed_by_the_inboxs_owner_only(
    alice: Rest, bob: Rest, anonymous: Rest, shared_server: BusServer, plain_secrets: dict[str, str], fresh_room: str
) -> None:
    own = f"{fresh_room}-inbox"
    alice.ok("POST", f"channels/{fresh_room}:a/messages", {"message": "here I am"}, params={"client_id": own})
    body = {"type": "private", "to": own, "stream": {}, "payload": {}}
    of = bob.ok("POST", "messages", body)["stream"]["of"]
    bob.ok("POST", f"streams/{of}/append", {"n": 1, "delta": "psst"}, status=200)
    assert anonymous.error("GET", f"streams/{of}/events")["code"] == "STREAM_NOT_FOUND"
    assert bob.error("GET", f"streams/{of}/events")["code"] == "CHANNEL_NOT_FOUND"
    assert anonymous.error("GET", f"streams/{of}")["code"] == "STREAM_NOT_FOUND"
    for verb, body in BODIES.items():
        assert anonymous.error("POST", f"streams/{of}/{verb}", body)["code"] == "STREAM_NOT_FOUND"
    assert alice.get(f"streams/{of}")["have"] == bob.get(f"streams/{of}")["have"] == 1
    async with following(shared_server, of, "parts", token=plain_secrets["alice"]) as reader:
        assert (await reader.next()).data["text"] == "psst"


def test_what_cannot_be_followed_is_refused_as_json(anonymous: Rest, fresh_room: str) -> None:
    path = f"streams/arq_none-{fresh_room}/events"
    assert anonymous.error("GET", path)["code"] == "STREAM_NOT_FOUND"
    assert anonymous.error("DELETE", path)["code"] == "METHOD_NOT_ALLOWED"
    assert anonymous.error("GET", f"{path}?as=pdf")["details"][0]["field"] == "as"
    assert anonymous.error("GET", f"{path}?form=agui")["details"][0]["field"] == "form"
    wrong = anonymous.error("GET", path, headers={"Last-Event-ID": "x"})
    assert wrong["details"][0]["field"] == "Last-Event-ID"
    assert anonymous.error("GET", path, headers={"Authorization": "Bearer wrong"})["code"] == "UNAUTHENTICATED"


@pytest.mark.embedded
async def test_a_stream_and_its_followers_outlive_a_restart(
    start_server: StartServer, call_as: CallAs, fresh_room: str
) -> None:
    server = await asyncio.to_thread(start_server, "uvicorn")
    owner = await asyncio.to_thread(Owner, call_as(server), fresh_room)
    await asyncio.to_thread(owner.say, "Hel")
    async with contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(following(server, owner.of, form)) for form in FORMS]
        seen = [[await reader.next()] for reader in readers]
        for number in (1, 2):
            while not seen[number][-1].id:
                seen[number].append(await readers[number].next())
        ending = asyncio.create_task(asyncio.to_thread(server.terminate))
        last = [(await rest_of(reader))[-1] for reader in readers]
        assert last[0]["error"]["code"] == "RESTARTING"
        assert (last[1]["type"], last[1]["code"]) == ("RUN_ERROR", "RESTARTING")
        assert last[2]["type"] == "error"
        await ending
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(owner.say, "lo")
    await asyncio.to_thread(owner.end)
    for form, events in zip(FORMS, seen, strict=True):
        async with following(server, owner.of, form, last=events[-1].id) as reader:
            rest = await rest_of(reader)
            assert rest[-1]["message"] == "Hello" if form == "parts" else text_in(rest) == "lo"
