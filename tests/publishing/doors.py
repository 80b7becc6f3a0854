"""The ways into the bus, each of which publishes the same messages, and what each of them makes of a message.

What is compared is written in the names of one door: every door has rooms and clients of its own, whose names end with the
door's ``mark``, and the mark is replaced. Times and ids that the server made are replaced, too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
import msgspec

from tests.clients_python.test_mcp import Agent, agent
from tests.harness.client import WireClient
from tests.harness.server import BusServer

DEADLINE = 30.0
PASSWORD = "a password of the test's"
_UID = re.compile(r'^\{"version":"1\.0","id":"([^"]*)"')
_CODE = re.compile(r"(?:^|: )([A-Z_]+): ")
_SIZE = re.compile(r"has [0-9]+ bytes")
_OF_SEQ = re.compile(r'"of_seq":[0-9]+')
_STAMP = re.compile(r'"timestamp":"[0-9TZ:.\-]+"(,"seq":[0-9]+)?')


#: The frames that each member has had, by log.
Seen = dict[str, dict[str, list[str]]]


class Frame(NamedTuple):
    """A message as no door writes it. ``to`` are names of targets, ``way`` how a private message names its targets."""

    place: str
    to: tuple[str, ...] = ()
    way: str = "private"
    type: str = "event"
    id: str | None = None
    payload: dict[str, Any] | None = None
    message: str | None = None
    metadata: dict[str, Any] | None = None
    #: A message that grows, or one that steers such a message. Streams are named by the ids of their openings.
    mode: str | None = None
    steer: str | None = None
    #: Instead of a message: a part of the stream, or its end.
    of: str | None = None
    n: int = 0
    delta: str | None = None
    part: dict[str, Any] | None = None
    end: str | None = None

    @property
    def grows(self) -> bool:
        """Whether it is about a message that grows."""
        return self.mode is not None or self.steer is not None or self.of is not None

    @property
    def beyond_limits(self) -> bool:
        """Whether it is larger, deeper or for more targets than clients may send (``test_doors.ENV``)."""
        return len(self.message or "") > 4096 or len(self.to) > 3 or "deep" in (self.payload or ())


class Outcome(NamedTuple):
    """What a door answers: where the message is (room, channel, seq), or what was wrong."""

    places: tuple[tuple[str, str, int | None], ...] = ()
    duplicate: bool = False
    unproven: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    error: tuple[str, str, Any] | None = None
    stream: tuple[tuple[str, Any], ...] | None = None
    steered: bool | None = None


@dataclass
class Effects:
    """What the bus did with the messages of one door, in the names of no door."""

    outcomes: list[Outcome]
    rows: list[Any] = field(default_factory=list)
    signals: list[Any] = field(default_factory=list)
    seen: Seen = field(default_factory=dict)
    published: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Site:
    """A server of ``doors_settings`` with its identities; the second of a cluster has members, too."""

    def __init__(self, servers: Sequence[BusServer]) -> None:
        self.servers = servers
        self.token = servers[0].create_token("writer")
        self.http = httpx.AsyncClient(base_url=servers[0].http_url, timeout=DEADLINE, trust_env=False)
        self.last_row = 0

    async def look(self) -> Look:
        """What is new since the last call."""
        found = Look(**await self.inside("look", after=self.last_row))
        self.last_row = max((row[0] for row in found.rows), default=self.last_row)
        return found

    async def inside(self, action: str, **asked: Any) -> Any:
        """Run an action of ``doors_urls`` in the server."""
        answer = await self.http.post(f"/inside/{action}", json=asked)
        assert answer.status_code == 200, answer.text[:1000]
        return answer.json()


class Members:
    """Who hears what a door publishes: members in each process, one known client that is away, and a marker's publisher."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.room = f"room{mark}"
        self.clients: list[WireClient] = []
        self.marker: WireClient
        self.markers = 0
        self._seen: dict[WireClient, int] = {}

    async def join(self, site: Site, stack: AsyncExitStack) -> None:
        """Connect them."""

        async def connect(server: BusServer, name: str, **options: Any) -> WireClient:
            made = await WireClient.connect(
                server.url, client_id=f"{name}{self.mark}", room=f"{self.room}:hall", timeout=DEADLINE, **options
            )
            stack.push_async_callback(made.close)
            return made

        await site.inside(
            "prepare", room=self.room, locked=f"locked{self.mark}", user=f"writer{self.mark}", password=PASSWORD
        )
        await (await connect(site.servers[0], "carol")).close()
        for server, name in zip(site.servers, ("bob", "dora"), strict=False):
            member = await connect(server, name)
            await member.request("join_channel", room=self.room, channel="fleeting", timeout=DEADLINE)
            self.clients.append(member)
        self.marker = await connect(site.servers[0], "marker")

    async def seen(self) -> Seen:
        """The frames that each member has had since the last call, by log. Waits until all that was published is there."""
        self.markers += 1
        text = f"marker {self.markers}"
        targets = [client.client_id for client in self.clients]
        for address in ({"channel": "hall"}, {"channel": "fleeting"}, {}):
            await self.marker.publish(text, room=self.room, **address, ack=True, timeout=DEADLINE)
        await self.marker.publish(text, type="private", to=targets, ack=True, timeout=DEADLINE)
        found: Seen = {}
        for client in self.clients:
            await client.expect_all(4, message=text, timeout=DEADLINE)
            new = client.received[self._seen.get(client, 0) :]
            self._seen[client] = len(client.received)
            logs = found.setdefault(neutral(client.client_id, self.mark), {})
            for received in new:
                frame = received.frame
                if "room" in frame and frame.get("from") not in (None, self.marker.client_id, "arqonbus_server"):
                    log = neutral(f"{frame['room']}:{frame['channel']}", self.mark)
                    logs.setdefault(log, []).append(neutral(received.raw, self.mark))
        return found


class Look(NamedTuple):
    """What is new in the server (``doors_urls._look``)."""

    rows: list[list[Any]]
    heard: list[list[Any]]
    published: int
    errors: dict[str, int]


def neutral(text: str, mark: str) -> str:
    """A text in the names of no door; a frame also without its time, and without an id that somebody made up for it."""
    text = text.replace(mark, "~")
    uid = _UID.match(text)
    if uid is not None:
        if not uid[1].startswith("arq_given-"):
            text = text.replace(uid[1], "arq_made", 1)
        text = _OF_SEQ.sub('"of_seq":0', text, count=1)
        text = _STAMP.sub(lambda found: '"timestamp":""' + (',"seq":0' if found[1] else ""), text, count=1)
    return text


class Door:
    """A way into the bus. ``mark`` ends the names of its rooms and clients."""

    name = ""
    #: Whether clients are told of errors here, which the metric counts.
    tells_errors = True

    def __init__(self, run: str) -> None:
        self.mark = f"-{self.name}-{run}"
        self.members = Members(self.mark)
        self.sender = f"writer{self.mark}"
        self.site: Site

    def takes(self, frame: Frame) -> bool:
        """Whether such a message can be said through this door."""
        return True

    async def open(self, site: Site, stack: AsyncExitStack) -> None:
        """Make it ready; ``stack`` closes it."""
        self.site = site
        await self.members.join(site, stack)

    async def publish(self, frames: Sequence[Frame]) -> list[Outcome]:
        """Publish the messages in their order."""
        return [await self.publish_one(frame) for frame in frames]

    async def seen(self) -> Seen:
        """What members have had since the last call."""
        return await self.members.seen()

    async def publish_one(self, frame: Frame) -> Outcome:
        """Publish a message."""
        raise NotImplementedError

    def target(self, name: str) -> str:
        """A client of this door's."""
        return f"{name}{self.mark}"

    def address(self, frame: Frame) -> str:
        """The address of a message for a channel or a room, and of a private one that is sent to an address."""
        if frame.place == "pm":
            return f"pm:{self.target(frame.to[0])}"
        room = f"locked{self.mark}" if frame.place == "locked" else self.members.room
        return {
            "hall": f"{room}:hall",
            "fleeting": f"{room}:fleeting",
            "locked": f"{room}:hall",
            "room": room,
            "everybody": "*:*",
            "bad": "a b:c",
        }.get(frame.place, f"{room}:{frame.place}")

    def wire(self, frame: Frame) -> dict[str, Any]:
        """The message as a frame of the protocol."""
        said: dict[str, Any] = {"type": frame.type}
        if frame.of is not None:
            keys = {"id": frame.id and self.given(frame.id), "delta": frame.delta, "part": frame.part, "end": frame.end}
            given = {key: value for key, value in keys.items() if value is not None}
            return {"type": "append", "of": self.stream(frame.of), "n": frame.n, **given, "payload": frame.payload}
        if frame.mode is not None:
            said["stream"] = {"mode": frame.mode}
        if frame.steer is not None:
            said["steer"] = self.stream(frame.steer)
        if frame.place == "pm" and frame.way == "private":
            said |= {"type": "private", "to": [self.target(name) for name in frame.to]}
        elif frame.place == "pm" and frame.way == "channel":
            said |= {"room": self.members.room, "channel": "pm", "to": [self.target(name) for name in frame.to]}
        elif frame.place == "pm" and not frame.to:
            said |= {"channel": "pm"}
        else:
            said["room"] = self.address(frame)
        if frame.id is not None:
            said["id"] = self.given(frame.id)
        for key in ("payload", "message", "metadata"):
            if (value := getattr(frame, key)) is not None:
                said[key] = value
        return said

    def given(self, name: str) -> str:
        """An id that the test gives. No two streams of the bus have one id, so each door has its own."""
        return f"{name}{self.mark}"

    def stream(self, name: str) -> str:
        """The id of a stream whose opening got such an id."""
        return f"arq_{self.given(name)}"

    def growth(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """What an answer says of a stream."""
        told = answer.get("stream")
        stream = None
        if told is not None:
            keys = {"of": neutral(told["of"], self.mark), **{k: told[k] for k in ("have", "state", "attempt")}}
            stream = (*keys.items(), ("stopping", told.get("stopping", False)))
        return {"stream": stream, "steered": answer.get("steered")}

    def error(self, problem: Mapping[str, Any]) -> Outcome:
        """A refusal. Which message of a batch it is does not matter here."""
        details = [{k: v for k, v in fault.items() if k != "index"} for fault in problem["details"]]
        # An ack has to be asked for, so that the same message is a little longer on a socket.
        text = _SIZE.sub("has many bytes", neutral(json.dumps([problem["message"], details]), self.mark))
        return Outcome(error=(problem["code"], *json.loads(text)))

    def published(self, rows: Sequence[Mapping[str, Any]], unknown: Sequence[str] = ()) -> Outcome:
        """The answer of REST and of Django code."""
        return Outcome(
            tuple((neutral(row["room"], self.mark), neutral(row["channel"], self.mark), row["seq"]) for row in rows),
            bool(rows) and all(row["duplicate"] for row in rows),
            tuple(neutral(row["channel"], self.mark) for row in rows if row["unproven"]),
            tuple(neutral(name, self.mark) for name in unknown),
            **(self.growth(rows[0]) if rows else {}),
        )


class SocketDoor(Door):
    """A registered connection."""

    name = "socket"
    socket: WireClient

    async def open(self, site: Site, stack: AsyncExitStack) -> None:
        await super().open(site, stack)
        self.socket = await WireClient.connect(
            site.servers[0].url,
            client_id=self.sender,
            room=f"lobby{self.mark}:desk",
            token=site.token,
            timeout=DEADLINE,
        )
        stack.push_async_callback(self.socket.close)

    async def publish_one(self, frame: Frame) -> Outcome:
        # As the other doors send it, byte for byte.
        text = msgspec.json.encode({**self.wire(frame), "ack": True}).decode()
        await self.socket.socket.send(text)
        answer = await self.socket.expect(predicate=_is_answer, timeout=DEADLINE)
        unknown: tuple[str, ...] = ()
        if answer["type"] == "error":
            problem = answer["error"]
            if problem["code"] != "TARGET_NOT_FOUND" or "The other targets" not in problem["message"]:
                return self.error(problem)
            unknown = tuple(fault["client_id"] for fault in problem["details"])
            answer = await self.socket.expect(predicate=_is_answer, timeout=DEADLINE)
        targets = answer.get("targets")
        seqs = {answer["channel"]: answer["seq"]} if targets is None else targets
        return Outcome(
            tuple((neutral(answer["room"], self.mark), neutral(name, self.mark), seq) for name, seq in seqs.items()),
            answer.get("duplicate", False),
            tuple(neutral(name, self.mark) for name in answer.get("unproven", ())),
            tuple(neutral(name, self.mark) for name in unknown),
            **self.growth(answer),
        )


def _is_answer(frame: Mapping[str, Any]) -> bool:
    return frame.get("type") in ("ack", "error")


class RestDoor(Door):
    """``POST /api/v1/messages``, one message a request."""

    name = "rest"

    async def post(self, path: str, body: Any) -> httpx.Response:
        """A request of this door's client."""
        return await self.site.http.post(
            f"/api/v1{path}",
            params={"client_id": self.sender},
            content=msgspec.json.encode(body),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.site.token}"},
        )

    def outcome(self, answer: httpx.Response) -> Outcome:
        """What the answer to one message says."""
        body = answer.json()
        if "error" in body:
            return self.error(body["error"])
        if "results" in body:
            return self.published(body["results"], body["unknown_targets"])
        return self.published([body])

    async def publish_one(self, frame: Frame) -> Outcome:
        return self.outcome(await self.post("/messages", self.wire(frame)))


class StreamDoor(RestDoor):
    """A page with an event stream: it reads there, and publishes with a POST to the channel's own address."""

    name = "stream"

    async def open(self, site: Site, stack: AsyncExitStack) -> None:
        await super().open(site, stack)
        self._texts: list[str] = []
        self._came = asyncio.Event()
        stream = await stack.enter_async_context(
            site.http.stream("GET", f"/api/v1/channels/{self.members.room}:hall/events")
        )
        assert stream.status_code == 200, await stream.aread()
        reading = asyncio.create_task(self._read(stream))
        stack.callback(reading.cancel)

    async def _read(self, stream: httpx.Response) -> None:
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                self._texts.append(line.removeprefix("data: "))
                self._came.set()

    async def publish_one(self, frame: Frame) -> Outcome:
        if frame.of is not None or frame.place not in ("hall", "fleeting", "locked"):
            return await super().publish_one(frame)
        said = self.wire(frame)
        return self.outcome(await self.post(f"/channels/{said.pop('room')}/messages", said))

    async def seen(self) -> Seen:
        found = await super().seen()
        marker = self.members.marker.client_id
        async with asyncio.timeout(DEADLINE):
            while sum(f'"from":"{marker}"' in text for text in self._texts) < self.members.markers:
                self._came.clear()
                await self._came.wait()
        logs: dict[str, list[str]] = {}
        found["stream"] = logs
        for text in self._texts:
            frame = json.loads(text)
            if frame.get("from") not in (None, marker):
                log = neutral(f"{frame['room']}:{frame['channel']}", self.mark)
                logs.setdefault(log, []).append(neutral(text, self.mark))
        self._texts = [text for text in self._texts if f'"from":"{marker}"' in text]
        return found


class BatchDoor(RestDoor):
    """``POST /api/v1/messages`` with all messages in one request, which are published together or not at all."""

    name = "batch"

    async def publish(self, frames: Sequence[Frame]) -> list[Outcome]:
        answer = (await self.post("/messages", {"messages": [self.wire(frame) for frame in frames]})).json()
        assert "error" not in answer, answer
        rows, outcomes = list(answer["results"]), []
        for frame in frames:
            count = len([name for name in frame.to if self.target(name) not in answer["unknown_targets"]]) or 1
            mine, rows = rows[:count], rows[count:]
            unknown = [self.target(name) for name in frame.to if self.target(name) in answer["unknown_targets"]]
            outcomes.append(self.published(mine, unknown))
        return outcomes


class DjangoDoor(Door):
    """``bus.services`` in a project's own code."""

    name = "django"
    # An exception in the project's own code; it says what clients are told of it.
    tells_errors = False

    def takes(self, frame: Frame) -> bool:
        if frame.beyond_limits or (frame.place == "pm" and (frame.way == "channel" or not frame.to)):
            return False
        return frame.way != "private" or frame.place != "pm" or frame.metadata is None

    async def publish_one(self, frame: Frame) -> Outcome:
        said = {key: getattr(frame, key) for key in ("payload", "message")}
        said["id"] = frame.id and self.given(frame.id)
        if frame.grows:
            return await self._grow(frame, said)
        if frame.place == "pm" and frame.way == "private":
            said["to"] = [self.target(name) for name in frame.to]
        else:
            said |= {"address": self.address(frame), "type": frame.type, "metadata": frame.metadata}
        answer = await self.site.inside("publish", token=self.site.token, client_id=self.sender, **said)
        if "error" in answer:
            return self.error(answer["error"])
        there = {row["channel"] for row in answer["results"]}
        # By contract `send_private` leaves the unknown ones out: the caller compares.
        unknown = [name for name in map(self.target, frame.to) if name not in there]
        return self.published(answer["results"], unknown)

    async def _grow(self, frame: Frame, said: dict[str, Any]) -> Outcome:
        """Open a stream, append, end or steer with the functions for that."""
        if frame.of is not None:
            del said["message"]
            said |= {"of": self.stream(frame.of), "n": frame.n, "delta": frame.delta, "part": frame.part}
            if frame.end is None:
                said.pop("id")
                said.pop("payload")
            else:
                said["state"] = frame.end
            said["call"] = "append_to_stream" if frame.end is None else "end_stream"
        else:
            said |= {"address": self.address(frame), "type": frame.type, "metadata": frame.metadata}
            said |= {"call": "publish", "steer": self.stream(frame.steer)} if frame.steer else {}
            said |= {"call": "open_stream", "mode": frame.mode} if frame.mode else {}
        answer = await self.site.inside("publish", token=self.site.token, client_id=self.sender, **said)
        return self.error(answer["error"]) if "error" in answer else self.published(answer["results"])


class McpDoor(Door):
    """The tool ``publish`` of the MCP server, over its standard input and output."""

    name = "mcp"

    def takes(self, frame: Frame) -> bool:
        """What the tool has no words for it cannot say: ids, types, metadata, and addresses of inboxes."""
        plain = (
            not frame.beyond_limits
            and not frame.grows
            and frame.id is None
            and frame.type == "event"
            and frame.metadata is None
        )
        return (
            plain
            and (frame.place != "pm" or (frame.way == "private" and bool(frame.to)))
            and bool(frame.message is not None or frame.payload is not None)
        )

    async def open(self, site: Site, stack: AsyncExitStack) -> None:
        await super().open(site, stack)
        server = site.servers[0]
        arguments = ("--client-id", self.sender)
        self._agent: Agent
        self._agent, self._session = await stack.enter_async_context(
            agent(server, *arguments, ARQONBUS_TOKEN=site.token)
        )

    async def publish_one(self, frame: Frame) -> Outcome:
        said: dict[str, Any] = {"text": frame.message, "payload": frame.payload}
        if frame.place == "pm":
            said["to"] = [self.target(name) for name in frame.to]
        else:
            said["address"] = self.address(frame)
        result = await self._session.call_tool("publish", {k: v for k, v in said.items() if v is not None})
        if result.is_error:
            code = _CODE.search(result.content[0].text)  # type: ignore[union-attr]
            assert code is not None, result.content
            return Outcome(error=(code[1], "", None))
        assert result.structured_content is not None
        room, _, channel = result.structured_content["address"].partition(":")
        return Outcome(((neutral(room, self.mark), neutral(channel, self.mark), result.structured_content["seq"]),))


class AdminDoor(Door):
    """The form on a client's page in the admin, which sends a text to that client."""

    name = "admin"
    tells_errors = False

    def takes(self, frame: Frame) -> bool:
        return (
            frame.place == "pm"
            and frame.way == "private"
            and frame.to in (("bob",), ("carol",))
            and frame._replace(place="", to=(), message="") == Frame("", message="")
            and frame.message is not None
            and frame.message.strip() == frame.message != ""
        )

    async def open(self, site: Site, stack: AsyncExitStack) -> None:
        await super().open(site, stack)
        self._http = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=site.servers[0].http_url, timeout=DEADLINE, trust_env=False, follow_redirects=True
            )
        )
        await self._http.get("/admin/login/")
        answer = await self._post("/admin/login/", username=self.sender, password=PASSWORD, next="/admin/")
        assert "Log out" in answer.text or "logout" in answer.text, answer.text[:2000]

    async def _post(self, path: str, **form: str) -> httpx.Response:
        form["csrfmiddlewaretoken"] = self._http.cookies["csrftoken"]
        return await self._http.post(path, data=form, headers={"Referer": f"{self._http.base_url}{path}"})

    async def publish_one(self, frame: Frame) -> Outcome:
        pk = (await self.site.inside("client", client_id=self.target(frame.to[0])))["pk"]
        answer = await self._post(f"/admin/bus/client/{pk}/message/", text=frame.message or "")
        assert 'class="success"' in answer.text, answer.text[:1000]
        assert self.sender in answer.text
        # The page says no more than that.
        return Outcome((("pm", neutral(self.target(frame.to[0]), self.mark), None),))


DOORS: tuple[Callable[[str], Door], ...] = (
    SocketDoor,
    RestDoor,
    StreamDoor,
    BatchDoor,
    DjangoDoor,
    McpDoor,
    AdminDoor,
)
