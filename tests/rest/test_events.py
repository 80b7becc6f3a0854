"""Server-Sent Events: a channel as a member gets it, for those who cannot use sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.harness.server import BusServer, ServerKind
from tests.harness.waiting import wait_until
from tests.rest.conftest import CallAs, Rest

DEADLINE = 20.0


@dataclass
class Event:
    id: str | None
    name: str
    data: Any


class Reader:
    """Reads the events of one stream as a browser does."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.retry: int | None = None

    async def next(self) -> Event:
        """The next event. Raises StopAsyncIteration at the end of the stream, TimeoutError when none comes."""
        place: str | None = None
        name = "message"
        data: list[str] = []
        async with asyncio.timeout(DEADLINE):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                if not line and data:
                    return Event(place, name, json.loads("\n".join(data)))
                if field == "id":
                    place = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "retry":
                    self.retry = int(value)
        raise StopAsyncIteration

    async def messages(self, count: int) -> list[Event]:
        """The next messages of the log."""
        found: list[Event] = []
        while len(found) < count:
            event = await self.next()
            if event.name == "message":
                found.append(event)
        return found


@contextlib.asynccontextmanager
async def following(
    server: BusServer, address: str, *, token: str | None = None, last: str | None = None, since: Any = None
) -> AsyncIterator[Reader]:
    """A stream of a channel's events that must open."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if last is not None:
        headers["Last-Event-ID"] = last
    query = {} if since is None else {"since": str(since)}
    async with (
        httpx.AsyncClient(timeout=DEADLINE, trust_env=False) as client,
        client.stream(
            "GET", f"{server.http_url}/api/v1/channels/{address}/events", headers=headers, params=query
        ) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Reader(response)


def streams(server: BusServer) -> int:
    """How many streams the server has open."""
    found = [
        line
        for line in server.get("/metrics")[1].decode().splitlines()
        if line.startswith("arqonbus_connections{") and 'socket="events"' in line
    ]
    return int(float(found[0].split()[-1])) if found else 0


async def test_what_is_added_to_a_streamed_message_has_events_of_its_own(
    alice: Rest, shared_server: BusServer, fresh_room: str
) -> None:
    path = f"channels/{fresh_room}:a/messages"
    of = alice.ok("POST", path, {"payload": {}, "stream": {"mode": "text"}})["stream"]["of"]
    alice.ok("POST", f"streams/{of}/append", {"n": 1, "delta": "Hel"}, status=200)
    async with following(shared_server, f"{fresh_room}:a", since=0) as reader:
        found = [await reader.next() for _ in range(3)]
        assert [event.name for event in found] == ["subscribed", "message", "snapshot"]
        assert found[2].data["text"] == "Hel"
        alice.ok("POST", f"streams/{of}/append", {"n": 2, "delta": "lo"}, status=200)
        alice.ok("POST", f"streams/{of}/end", {"n": 2}, status=200)
        found = [await reader.next() for _ in range(2)]
        assert [(event.name, event.id is None) for event in found] == [("append", True), ("message", False)]
        assert found[1].data["message"] == "Hello"


async def test_history_after_the_id_then_live_messages_without_hole_or_double(
    alice: Rest, shared_server: BusServer, fresh_room: str
) -> None:
    path = f"channels/{fresh_room}:a/messages"
    for number in range(5):
        alice.ok("POST", path, {"message": f"m{number}"})
    publishing = asyncio.create_task(
        asyncio.to_thread(lambda: [alice.ok("POST", path, {"message": f"m{n}"}) for n in range(5, 65)])
    )

    async def follow(after: int) -> list[Event]:
        async with following(shared_server, f"{fresh_room}:a", since=after) as reader:
            first = await reader.next()
            assert (first.name, first.data["recovered"], first.data["seq"]) == ("subscribed", True, after)
            return await reader.messages(65 - after)

    found = await asyncio.gather(*(follow(after) for after in (0, 1, 2, 3, 4, 5)))
    await publishing
    for after, events in enumerate(found):
        assert [event.data["seq"] for event in events] == list(range(after + 1, 66))
        epoch = events[0].id.partition(":")[0] if events[0].id else ""
        assert [event.id for event in events] == [f"{epoch}:{seq}" for seq in range(after + 1, 66)]
        assert events[-1].data == alice.get(f"{path}/65")


async def test_a_reader_comes_back_to_where_it_was_even_after_a_restart(
    start_server: StartServer, call_as: CallAs, fresh_room: str
) -> None:
    server = start_server("daphne")
    caller = call_as(server)
    path = f"channels/{fresh_room}:a/messages"
    caller.ok("POST", path, {"message": "one"})
    async with following(server, f"{fresh_room}:a") as reader:
        first = await reader.next()
        assert first.data["seq"] == 1
        caller.ok("POST", path, {"message": "two"})
        last = (await reader.messages(1))[0].id
        ending = asyncio.create_task(asyncio.to_thread(server.terminate))
        closed = await reader.next()
        assert (closed.name, closed.data["error"]["code"]) == ("closed", "RESTARTING")
        assert (reader.retry or 0) >= 500
        with pytest.raises(StopAsyncIteration):
            await reader.next()
        assert await ending == 0
    await asyncio.to_thread(server.start)
    caller.ok("POST", path, {"message": "three"})
    async with following(server, f"{fresh_room}:a", last=last) as reader:
        assert (await reader.next()).data["recovered"] is True
        assert [event.data["message"] for event in await reader.messages(1)] == ["three"]
    async with following(server, f"{fresh_room}:a", last="0123abcd:2") as reader:
        begin = (await reader.next()).data
        assert (begin["recovered"], begin["first_seq"]) == (False, 1)
        assert [event.data["message"] for event in await reader.messages(3)] == ["one", "two", "three"]
    wait_until(lambda: streams(server) == 0, "the streams are gone")


async def test_a_stream_ends_when_the_right_to_it_ends(
    admin: Rest, call_as: CallAs, shared_server: BusServer, fresh_room: str
) -> None:
    name = f"reader-{fresh_room}"
    token = shared_server.create_token(name)
    admin.ok("POST", "rooms", {"room": fresh_room, "private": True})
    admin.ok("POST", "channels", {"room": fresh_room, "channel": "a"})
    reader_of = call_as(shared_server, token)
    assert reader_of.error("GET", f"channels/{fresh_room}:a/events")["code"] == "CHANNEL_NOT_FOUND"
    rule = {"subject": "token", "subject_name": name, "action": "join", "pattern": fresh_room}
    grant = admin.ok("POST", "grants", rule)
    async with following(shared_server, f"{fresh_room}:a", token=token) as reader:
        await reader.next()
        admin.ok("POST", f"channels/{fresh_room}:a/messages", {"message": "seen"})
        assert (await reader.messages(1))[0].data["message"] == "seen"
        admin.ok("DELETE", f"grants/{grant['id']}", status=204)
        event = await reader.next()
        assert (event.name, event.data["payload"]["event"]) == ("system", "unsubscribed")
        event = await reader.next()
        assert (event.name, event.data["error"]["code"]) == ("closed", "REVOKED")
        with pytest.raises(StopAsyncIteration):
            await reader.next()
    admin.ok("POST", "grants", rule)
    async with following(shared_server, f"{fresh_room}:a", token=token) as reader:
        await reader.next()
        own = reader_of.get("tokens")["results"][0]
        reader_of.ok("DELETE", f"tokens/{own['id']}", status=204)
        assert (await reader.next()).name == "closed"


async def test_an_inbox_is_followed_by_its_owner_only(
    alice: Rest, bob: Rest, anonymous: Rest, shared_server: BusServer, plain_secrets: dict[str, str], fresh_room: str
) -> None:
    own = f"{fresh_room}-inbox"
    alice.ok("POST", f"channels/{fresh_room}:a/messages", {"message": "here I am"}, params={"client_id": own})
    bob.ok("POST", "messages", {"type": "private", "to": own, "message": "psst"})
    for other in (bob, anonymous):
        assert other.error("GET", f"channels/pm:{own}/events")["code"] == "CHANNEL_NOT_FOUND"
    async with following(shared_server, f"pm:{own}", token=plain_secrets["alice"], since=0) as reader:
        await reader.next()
        assert (await reader.messages(1))[0].data["message"] == "psst"


def test_what_cannot_be_followed_is_refused_as_json(anonymous: Rest, fresh_room: str) -> None:
    assert anonymous.error("GET", f"channels/{fresh_room}:none/events")["code"] == "CHANNEL_NOT_FOUND"
    assert anonymous.error("GET", "channels/science:a%20b/events")["code"] == "INVALID_NAME"
    assert anonymous.error("POST", "channels/science:general/events", {})["code"] == "METHOD_NOT_ALLOWED"
    assert anonymous.error("GET", "channels/science:general/events?since=soon")["details"][0]["field"] == "since"
    assert anonymous.error("GET", "channels/science:general/events?sinse=1")["details"][0]["field"] == "sinse"
    wrong = anonymous.error("GET", "channels/science:general/events", headers={"Last-Event-ID": "x"})
    assert wrong["details"][0]["field"] == "Last-Event-ID"


# What a cluster's notification holds of the messages on its way is not what this is about.
@pytest.mark.embedded
@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_a_reader_that_takes_nothing_is_cut_off_and_costs_no_more_than_the_bound(
    start_server: StartServer, call_as: CallAs, kind: ServerKind, fresh_room: str
) -> None:
    server = start_server(kind, env={"ARQONBUS_SEND_DEADLINE": "1"})
    caller = call_as(server)
    path = f"channels/{fresh_room}:a/messages"
    batch = {"messages": [{"message": "x" * 100_000}] * 5}
    # What the requests themselves cost is there before it counts.
    for _ in range(10):
        caller.ok("POST", path, batch)
    before = server.rss()
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        stuck.connect((server.host, server.port))
        stuck.sendall(f"GET /api/v1/channels/{fresh_room}:a/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: streams(server) == 1, "the stream is open")
        for _ in range(80):
            caller.ok("POST", path, batch)
        wait_until(lambda: streams(server) == 0, "the stuck stream is ended")
        assert server.rss() - before < 25 * 1024 * 1024
    assert len(caller.get(path, limit=1)["results"]) == 1
