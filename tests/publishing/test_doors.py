"""The same messages through every door: socket, REST, the POST beside an event stream, a batch, MCP, the admin, Django code.

Each door has rooms and clients of its own. Compared are the answer, the rows and their order, the bytes that members get (on
the cluster back end in two processes), what the signal tells, and the metrics. Doors differ by contract where ``doors`` says so:

- MCP and the admin answer with less than an ack, and have words for some messages only.
- A batch is published as a whole or not at all, so it takes part where no message is refused.
- Limits of size and number of targets are for clients. The Python client (and so MCP) keeps them by itself.
- An exception in Django code and a sentence in the admin are no errors that clients are told, so the metric counts none.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.harness.backends import Backends
from tests.publishing.doors import DOORS, BatchDoor, Door, Effects, Frame, Look, Outcome, RestDoor, Site, neutral

#: Limits that a test can go beyond with little effort.
ENV = {
    "DJANGO_SETTINGS_MODULE": "tests.publishing.doors_settings",
    "ARQONBUS_FRAME_BYTES": "4096",
    "ARQONBUS_FRAME_DEPTH": "8",
    "ARQONBUS_TARGETS": "3",
    "ARQONBUS_BAD_FRAMES": "100000",
    "ARQONBUS_TELEMETRY_INTERVAL": "0",
}

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
#: The key keeps a payload from being taken for another dialect's envelope.
PAYLOADS = st.builds(lambda value: {"n": value}, VALUES)
#: Ids of one example; they are made unique when it runs.
IDS = st.sampled_from([None, None, "one", "two"])
PLACES = ["hall", "hall", "fleeting", "fleeting", "room", "new", "locked", "everybody", "bad"]
TARGETS = st.lists(st.sampled_from(["bob", "carol", "nobody"]), min_size=1, max_size=3, unique=True).map(tuple)


def _frames(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Frame]:
    return st.fixed_dictionaries(fields).map(lambda chosen: Frame(**chosen))


CHANNEL_FRAMES = _frames(
    place=st.sampled_from(PLACES),
    type=st.sampled_from(["event", "event", "note", "system"]),
    id=IDS,
    payload=st.none() | PAYLOADS,
    message=st.none() | TEXTS,
    metadata=st.none() | PAYLOADS,
)
PRIVATE_FRAMES = _frames(
    place=st.just("pm"),
    to=TARGETS,
    way=st.sampled_from(["private", "private", "channel", "address"]),
    id=IDS,
    payload=st.none() | PAYLOADS,
    message=st.none() | TEXTS,
).map(lambda frame: frame._replace(to=frame.to[:1]) if frame.way == "address" else frame)
#: What every door but the admin can say, and what the admin can.
PLAIN_FRAMES = _frames(place=st.sampled_from(PLACES), payload=st.none() | PAYLOADS, message=TEXTS) | _frames(
    place=st.just("pm"), to=TARGETS, payload=st.none() | PAYLOADS, message=TEXTS
)
LETTERS = _frames(place=st.just("pm"), to=st.sampled_from([("bob",), ("carol",)]), message=TEXTS)
#: What clients may not send.
NESTED: dict[str, Any] = {"deep": {"x": {"x": {"x": {"x": {"x": {"x": {}}}}}}}}
BEYOND = [
    Frame("hall", id="one", message="x" * 5000),
    Frame("fleeting", id="one", message="x" * 5000),
    Frame("hall", id="one", payload=NESTED),
    Frame("pm", ("bob", "carol", "nobody", "n4"), id="one", message="psst"),
    Frame("pm", (), id="one", message="psst"),
    Frame("pm", (), "channel", id="one", message="psst"),
]

#: A stream from its opening on, with what may come in any order then.
OPENINGS = _frames(
    place=st.sampled_from(["hall", "hall", "hall", "new", "room", "locked", "fleeting"]),
    id=st.just("one"),
    mode=st.sampled_from(["text", "text", "parts"]),
    payload=st.none() | PAYLOADS,
) | st.just(Frame("pm", ("bob",), "address", id="one", mode="text"))
GROWTHS = _frames(
    place=st.just(""),
    of=st.sampled_from(["one", "one", "one", "none"]),
    n=st.integers(1, 3),
    delta=TEXTS,
    end=st.sampled_from([None, None, "complete", "aborted"]),
) | _frames(place=st.just(""), of=st.just("one"), n=st.integers(1, 2), part=PAYLOADS)
ENDS = _frames(
    place=st.just(""),
    of=st.just("one"),
    n=st.integers(0, 2),
    end=st.sampled_from(["complete", "stopped"]),
    id=st.sampled_from([None, "two"]),
    payload=st.none() | PAYLOADS,
)
STEERS = _frames(
    place=st.sampled_from(["hall", "hall", "fleeting"]),
    steer=st.just("one"),
    id=st.sampled_from(["s1", "s2"]),
    message=TEXTS,
)
STREAMS = st.builds(
    lambda opening, rest: [opening, *rest], OPENINGS, st.lists(GROWTHS | GROWTHS | ENDS | STEERS, max_size=4)
)

EXAMPLES = st.one_of(
    STREAMS,
    st.lists(CHANNEL_FRAMES, min_size=1, max_size=3),
    st.lists(PRIVATE_FRAMES, min_size=1, max_size=2),
    st.lists(PLAIN_FRAMES, min_size=1, max_size=2),
    st.lists(LETTERS, min_size=1, max_size=2),
    st.lists(st.sampled_from(BEYOND), min_size=1, max_size=2),
)


class World:
    """The doors to one server, and the loop in which the test uses them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._run = secrets.token_hex(3)
        self.doors = [door(self._run) for door in DOORS]
        self._examples = 0
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._ready = asyncio.Event()
        self._end = asyncio.Event()
        self._owner: asyncio.Task[None]
        self._last: Look

    def __enter__(self) -> World:
        self._runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stop())
        self._runner.close()

    async def _start(self) -> None:
        # One task opens and closes all of it, as an MCP session wants it.
        self._owner = asyncio.create_task(self._own())
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait([self._owner, ready], return_when=asyncio.FIRST_COMPLETED)
        if self._owner.done():
            ready.cancel()
            await self._owner

    async def _own(self) -> None:
        async with self._stack:
            self._stack.push_async_callback(self.site.http.aclose)
            for door in self.doors:
                await door.open(self.site, self._stack)
            self._ready.set()
            await self._end.wait()

    async def _stop(self) -> None:
        self._end.set()
        await self._owner

    def compare(self, frames: Sequence[Frame]) -> None:
        """Publish the frames through every door that has words for them, and compare what came of it."""
        self._runner.run(self._compare(frames))

    async def _compare(self, frames: Sequence[Frame]) -> None:
        self._examples += 1
        # Ids and new channels are an example's own.
        frames = [
            frame._replace(
                id=frame.id and f"given-{self._examples}-{frame.id}",
                place=f"new{self._examples}" if frame.place == "new" else frame.place,
                of=frame.of and f"given-{self._examples}-{frame.of}",
                steer=frame.steer and f"given-{self._examples}-{frame.steer}",
            )
            for frame in frames
        ]
        # Without the last example's markers.
        self._last = await self.site.look()
        reference, *others = [door for door in self.doors if all(door.takes(frame) for frame in frames)]
        expected = await self._effects(reference, frames)
        refused = any(outcome.error for outcome in expected.outcomes)
        found = [
            (door, await self._effects(door, frames))
            for door in others
            if not (refused and isinstance(door, BatchDoor))
        ]
        seen = await asyncio.gather(*(door.seen() for door in (reference, *(door for door, _ in found))))
        expected.seen = seen[0]
        for (door, effects), frames_seen in zip(found, seen[1:], strict=True):
            effects.seen = frames_seen
            assert effects == _as_told_by(door, expected), f"{door.name} differs from {reference.name}"

    async def _effects(self, door: Door, frames: Sequence[Frame]) -> Effects:
        before = self._last
        outcomes = await door.publish(frames)
        self._last = look = await self.site.look()
        places: dict[tuple[str, str, int | None], int] = {}
        rows = []
        counts: dict[tuple[str, str], int] = {}
        for _, room, channel, seq, uid, kind, sender, text in look.rows:
            log = (neutral(room, door.mark), neutral(channel, door.mark))
            counts[log] = places[(*log, seq)] = counts.get(log, 0) + 1
            given = uid.startswith("arq_given-")
            rows.append(
                (
                    log,
                    neutral(uid, door.mark) if given else "arq_made",
                    kind,
                    neutral(sender, door.mark),
                    neutral(text, door.mark),
                )
            )
        signals = [
            (
                (log := (neutral(room, door.mark), neutral(channel, door.mark))),
                places[(*log, seq)],
                neutral(text, door.mark),
            )
            for room, channel, seq, text in look.heard
        ]
        return Effects(
            [
                outcome._replace(places=tuple((*place[:2], place[2] and places[place]) for place in outcome.places))
                for outcome in outcomes
            ],
            rows,
            signals,
            published=look.published - before.published,
            errors={
                code: count - before.errors.get(code, 0)
                for code, count in look.errors.items()
                if count != before.errors.get(code, 0)
            },
        )


def _as_told_by(door: Door, expected: Effects) -> Effects:
    """What a door by contract makes of what the socket's door made."""
    outcomes = expected.outcomes
    if door.name == "mcp":
        outcomes = list(map(_as_the_tool_tells, outcomes))
    elif door.name == "admin":
        # The page says that the client has it, and no seq.
        outcomes = [Outcome(tuple((*place[:2], None) for place in outcome.places)) for outcome in outcomes]
    errors = dict(expected.errors) if door.tells_errors else {}
    if errors and isinstance(door, RestDoor):
        # To a socket, unknown targets among known ones are an error of their own; here they are a part of the answer.
        errors["TARGET_NOT_FOUND"] = errors.get("TARGET_NOT_FOUND", 0) - sum(bool(o.unknown) for o in expected.outcomes)
        errors = {code: count for code, count in errors.items() if count}
    seen = expected.seen
    if door.name == "stream":
        bob = next(iter(seen.values()))
        seen = {**seen, "stream": {log: texts for log, texts in bob.items() if log == "room~:hall"}}
    return Effects(outcomes, expected.rows, expected.signals, seen, expected.published, errors)


def _as_the_tool_tells(outcome: Outcome) -> Outcome:
    """The tool says where a message is (of several copies: only that), or an error, also for unknown targets among others."""
    code = "TARGET_NOT_FOUND" if outcome.unknown else outcome.error and outcome.error[0]
    if code:
        return Outcome(error=(code, "", None))
    return Outcome(outcome.places if len(outcome.places) == 1 else (("pm", "*", None),))


@pytest.fixture
def world(backends: Backends, start_server: StartServer) -> Iterator[World]:
    """The doors to one server, in a cluster with a second one beside it."""
    servers = [start_server(env=ENV) for _ in range(2 if backends.name == "cluster" else 1)]
    with World(Site(servers)) as made:
        yield made


# A failure is made as small as it can be, which takes longer than the test.
@pytest.mark.timeout(900)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(EXAMPLES)
@example([Frame("hall", id="one", message="a"), Frame("hall", id="one", message="b")])
@example([Frame("fleeting", id="one", message="a"), Frame("fleeting", id="one", message="b")])
@example([Frame("fleeting", id="one", message="a"), Frame("hall", id="one", message="b")])
@example([Frame("pm", ("bob", "nobody", "carol"), id="one", message="psst")])
@example([Frame("hall", id="one", mode="text"), Frame("", of="one", n=1, delta="a", end="complete")])
@example(
    [
        Frame("hall", id="one", mode="parts"),
        Frame("", of="one", n=1, part={"a": 1}),
        Frame("hall", steer="one", id="s1", message="left"),
        Frame("", of="one", n=1, end="aborted", payload={"u": 1}),
        Frame("", of="one", n=1, end="aborted"),
        Frame("hall", steer="one", id="s2", message="too late"),
    ]
)
@example([Frame("hall", id="one", mode="text"), Frame("", of="one", n=2, delta="gap")])
@example([Frame("locked", id="one", mode="text"), Frame("", of="one", n=1, delta="hidden")])
@example(
    [Frame("pm", ("bob",), "address", id="one", mode="text"), Frame("", of="one", n=1, delta="psst", end="stopped")]
)
def test_every_door_does_the_same(world: World, frames: list[Frame]) -> None:
    world.compare(frames)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(EXAMPLES)
def test_every_door_does_the_same_a_thousand_times(world: World, frames: list[Frame]) -> None:
    world.compare(frames)
