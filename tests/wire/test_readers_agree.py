"""One frame never spoils the others: whatever the bus accepts leaves it as JSON that says the same to every reader.

Frames go in by each door, as odd as JSON lets them be. Each that is acknowledged is then read by every way out (live socket,
history command, replay, REST, events, export, telemetry), and all that comes is read by Python's json, msgspec and JSON.parse.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection, connect

from tests.admin.conftest import Pages
from tests.conftest import _servers
from tests.harness.backends import Backends
from tests.harness.server import BusServer
from tests.wire.json_texts import BLANKS, CONTENTS, IDS, Readers, frame

DEADLINE = 20.0
#: Frames of one example, all in channels of its own.
FRAMES = 20
#: Frames of one run of hypothesis, which remembers all that it has tried.
RUN = 2_000
SETTINGS = {"ARQONBUS_BAD_FRAMES": "1000000"}
STREAM = "integriguard:telemetry-stream"

#: What goes in: by which door, where to, and what it says.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["v0", "v0", "v1", "rest", "batch", "telemetry", "telemetry on the bus"]),
        st.sampled_from(["channel", "channel", "room", "private"]),
        IDS,
        CONTENTS,
        BLANKS,
    ),
    min_size=FRAMES,
    max_size=FRAMES,
)


@dataclass
class Kept:
    """The messages of one example, by their log and seq: what was sent, and what came live."""

    sent: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    live: dict[tuple[str, int], Any] = field(default_factory=dict)

    def of(self, *addresses: str) -> dict[tuple[str, int], Any]:
        """The live ones of some logs."""
        return {place: value for place, value in self.live.items() if place[0] in addresses}


def said(text: str) -> dict[str, Any]:
    """What a frame says that was taken. A key that comes twice counts once: the first one may hold any number."""
    found: dict[str, Any] = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 30 else None)
    return found


class World:
    """A server with somebody at every door, in and out."""

    def __init__(self, server: BusServer, readers: Readers) -> None:
        self.readers = readers
        self._cases = count()
        self._open_ones = ExitStack()
        self._token = server.create_token("reader", admin=True)
        server.create_superuser("root")
        self.pages = Pages(server, "root")
        self._open_ones.callback(self.pages.client.close)
        self.url = server.url
        self.rest = httpx.Client(base_url=f"{server.http_url}/api/v1", trust_env=False, timeout=DEADLINE)
        self._open_ones.callback(self.rest.close)
        self.rest.headers["Authorization"] = f"Bearer {self._token}"
        self.speaker = self.socket({"client_id": "speaker"})
        self.listener = self.socket({"client_id": "listener"})
        self.latecomer = self.socket({"client_id": "latecomer"})
        self.prober = self._open(server.telemetry_url)
        self.watcher = self._open(server.telemetry_url)
        for socket in (self.prober, self.watcher):
            socket.recv(DEADLINE)
        self.accepted = 0

    def _open(self, url: str) -> ClientConnection:
        headers = {"Authorization": f"Bearer {self._token}"}
        return self._open_ones.enter_context(
            connect(url, additional_headers=headers, proxy=None, compression=None, max_size=None, ping_interval=None)
        )

    def socket(self, registration: dict[str, Any]) -> ClientConnection:
        """A registered socket."""
        made = self._open(self.url)
        made.recv(DEADLINE)
        made.send(json.dumps({"type": "register", **registration}))
        self._until(made, lambda told: told.get("payload", {}).get("event") == "registered")
        return made

    def close(self) -> None:
        """Everybody goes."""
        self._open_ones.close()

    def _until(self, socket: ClientConnection, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read what comes, all of it by all readers, up to a frame that is the one."""
        end = time.monotonic() + DEADLINE
        while True:
            text = socket.recv(max(0.1, end - time.monotonic()))
            assert isinstance(text, str)
            (told,) = self.readers.read([text])
            if done(told):
                found: dict[str, Any] = told
                return found

    def command(self, name: str, **parameters: Any) -> dict[str, Any]:
        """The answer of a command that goes well."""
        self.listener.send(json.dumps({"command": name, "id": f"c-{name}", "parameters": parameters}))
        answer = self._until(self.listener, lambda told: told.get("request_id") == f"c-{name}")
        assert answer.get("status") == "success", answer
        result: dict[str, Any] = answer["result"]
        return result

    # --- in ---------------------------------------------------------------------------------------------------------

    def example(self, steps: list[Any]) -> None:
        """Send the frames, and compare what everybody gets of those that were taken."""
        room = f"case{next(self._cases)}"
        address = f"{room}:a"
        self.command("join_channel", channel=address)
        kept = Kept()
        asked: dict[str, tuple[ClientConnection, str]] = {}
        batch: list[tuple[str, str]] = []
        for number, (door, place, odd, fields, blank) in enumerate(steps):
            name = f"{'arq_' if door == 'v1' else ''}{odd}-{number}-{room}"
            head = [('"id"', json.dumps(name)), ('"ack"', "true")]
            if door.startswith("telemetry"):
                head += [('"type"', '"telemetry"'), ('"eventType"', json.dumps(odd or "x")), ('"payload"', "{}")]
            else:
                head += [('"room"', f'"{room}"')] if place == "room" else [('"channel"', f'"{address}"')]
                if place == "private":
                    head[-1:] = [('"to"', '"listener"')]
                if door == "v1" or place == "private":
                    head += [('"type"', '"private"' if place == "private" else '"event"')]
                if door == "v1":
                    head += [('"version"', '"1.0"')]
            text = frame(head + fields, blank)
            if door == "rest":
                answer = self.rest.post(
                    "/messages", content=text.encode(), headers={"Content-Type": "application/json"}
                )
                self._published(kept, answer, [text])
            elif door == "batch":
                batch.append((name, text))
            else:
                socket = self.prober if door == "telemetry" else self.speaker
                socket.send(text)
                asked[name] = (socket, text)
        if batch:
            self._post(kept, [text for _, text in batch])
        for socket in (self.speaker, self.prober):
            waiting = {name: text for name, (by, text) in asked.items() if by is socket}
            while waiting:
                told = self._until(socket, lambda told: "request_id" in told)
                # Whatever is refused, its sender hears which frame it was; an id that is none is not told.
                if told["type"] == "error" and told["request_id"] is None:
                    name = next(name for name in waiting if not (0 < len(name) <= 128 and name.isprintable()))
                else:
                    name = told["request_id"]
                text = waiting.pop(name)
                if told["type"] != "error":
                    kept.sent[f"{told['room']}:{told['channel']}", told["seq"]] = said(text)
        self.accepted += len(kept.sent)
        self._compare(kept, room)
        self.command("leave_channel", channel=address)

    def _post(self, kept: Kept, texts: list[str]) -> None:
        """A batch is taken as a whole, so those that would spoil it are left out: each is tried alone first."""
        body = f'{{"messages":[{",".join(texts)}]}}'.encode()
        answer = self.rest.post("/messages", content=body, headers={"Content-Type": "application/json"})
        if answer.status_code >= 300 and len(texts) > 1:
            self.readers.read([answer.text])
            for half in (texts[: len(texts) // 2], texts[len(texts) // 2 :]):
                self._post(kept, half)
        else:
            self._published(kept, answer, texts)

    def _published(self, kept: Kept, answer: httpx.Response, texts: list[str]) -> None:
        (told,) = self.readers.read([answer.text])
        if answer.status_code >= 300:
            assert answer.status_code < 500, answer.text
            return
        for row, text in zip(told.get("results", [told]), texts, strict=True):
            kept.sent[f"{row['room']}:{row['channel']}", row["seq"]] = said(text)

    # --- out --------------------------------------------------------------------------------------------------------

    def _compare(self, kept: Kept, room: str) -> None:
        for socket, own in ((self.listener, False), (self.watcher, True)):
            waiting = {place for place in kept.sent if (place[0] == STREAM) is own}
            while waiting:
                told = self._until(socket, lambda told: "seq" in told and "request_id" not in told)
                place = f"{told['room']}:{told['channel']}", told["seq"]
                if place in waiting:
                    waiting.discard(place)
                    kept.live[place] = told
        for place, sent in kept.sent.items():
            live = kept.live[place]
            if isinstance(sent.get("payload"), dict):
                assert live["payload"] == sent["payload"]
            if sent.get("message") is not None:
                assert live["message"] == sent["message"]
        address, whole = f"{room}:a", f"{room}:*"
        ways: list[tuple[str, dict[tuple[str, int], Any], list[Any]]] = [
            ("history", kept.of(address, whole), self._history(room)),
            ("rest", kept.of(address, whole), self._rest(f"/messages?room={room}")),
            ("replay", kept.of(address), self._replay(address, len(kept.of(address)))),
            ("events", kept.of(address), self._events(address, len(kept.of(address)))),
            ("export", kept.of(address, whole), self._export(room)),
        ]
        for log in ("pm:listener", STREAM):
            mine = kept.of(log)
            if mine:
                first = min(seq for _, seq in mine)
                found = self.command("history", channel=log, after=first - 1, limit=500)["messages"]
                ways.append((f"history of {log}", mine, [row for row in found if (log, row["seq"]) in mine]))
        for name, wanted, found in ways:
            got = {(f"{row['room']}:{row['channel']}", row["seq"]): row for row in found}
            assert got == wanted, f"{name} says something else"

    def _history(self, room: str) -> list[Any]:
        found: list[Any] = self.command("history", room=room, limit=500)["messages"]
        return found

    def _rest(self, path: str) -> list[Any]:
        answer = self.rest.get(path)
        assert answer.status_code == 200, answer.text
        (page,) = self.readers.read([answer.text])
        found: list[Any] = page["results"]
        return found

    def _replay(self, address: str, number: int) -> list[Any]:
        found: list[Any] = []
        room = address.partition(":")[0]
        parameters = {"channel": address, "since": 0}
        self.latecomer.send(json.dumps({"command": "join_channel", "id": "join", "parameters": parameters}))
        while len(found) < number:
            told = self._until(self.latecomer, lambda told: "seq" in told)
            if told["room"] == room and told["channel"] == "a":
                found.append(told)
        self.latecomer.send(json.dumps({"command": "leave_channel", "id": "leave", "parameters": {"channel": address}}))
        return found

    def _events(self, address: str, number: int) -> list[Any]:
        found: list[Any] = []
        rest = b""
        with self.rest.stream("GET", f"/channels/{address}/events?since=0") as answer:
            assert answer.status_code == 200
            for part in answer.iter_raw():
                # A line ends as the standard says, and nowhere else (httpx takes U+2028 for an end).
                *lines, rest = (rest + part).split(b"\n")
                data = [line.removeprefix(b"data: ").decode() for line in lines if line.startswith(b"data: ")]
                found += [told for told in self.readers.read(data) if "seq" in told and "recovered" not in told]
                if len(found) >= number:
                    return found
        raise AssertionError("the stream of events ended")

    def _export(self, room: str) -> list[Any]:
        return self.readers.read(self.pages.get(f"/admin/bus/message/export/jsonl/?room={room}").splitlines())


@pytest.fixture
def world(backends: Backends, request: pytest.FixtureRequest) -> Iterator[World]:
    """A server of its own, which takes as many bad frames as come."""
    storage = backends.new_storage()
    readers = Readers(node=request.param)
    with _servers(backends, storage) as start, closing(World(start(env=SETTINGS), readers)) as made:
        yield made
    readers.close()
    backends.drop_storage(storage)


def check(world: World, frames: int) -> None:
    """So many frames, at most :data:`RUN`, in examples of a few."""

    @settings(
        max_examples=frames // FRAMES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(STEPS)
    def examples(steps: list[Any]) -> None:
        world.example(steps)

    before = world.accepted
    examples()
    # Most of them are right, else this would show nothing.
    assert world.accepted - before > frames * 0.4, world.accepted


@pytest.mark.parametrize(
    ("world", "frames"),
    [
        pytest.param(False, 120, id="python"),
        pytest.param(True, 600, id="node", marks=[pytest.mark.needs("node"), pytest.mark.timeout(300)]),
        pytest.param(
            True, 100_000, id="many", marks=[pytest.mark.needs("node"), pytest.mark.chaos, pytest.mark.timeout(5400)]
        ),
    ],
    indirect=["world"],
)
def test_what_leaves_the_bus_says_the_same_to_every_reader(world: World, frames: int) -> None:
    for begun in range(0, frames, RUN):
        check(world, min(RUN, frames - begun))
