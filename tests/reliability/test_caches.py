"""What a process remembers of channels is a help and no rule: whatever it has just forgotten, every answer is the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.dispatch import Signal

from bus import signals
from bus.auth.permissions import SYSTEM
from bus.directory.channels import ensure, find
from bus.models import Client, Grant, Membership
from bus.node import Node, running
from bus.protocol.names import Address
from bus.services import nodes
from bus.services import rights as access
from bus.services.rooms import update_room
from bus.testing import LiveBus, TestClient
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

OPEN, CLOSED = "agora", "vault"


#: What comes of it where nothing is forgotten.
EXPECTED: list[tuple[str, Any]] = [
    ("writer registered", {"agora:door": {"seq": 0}, "agora:*": {"seq": 0}, "*:*": {}, "pm:writer": {"seq": 0}}),
    ("reader registered", {"agora:hall": {"seq": 0}, "agora:*": {"seq": 0}, "*:*": {}, "pm:reader": {"seq": 0}}),
    ("insider registered", {"vault:plans": {"seq": 0}, "vault:*": {"seq": 0}, "*:*": {}, "pm:insider": {"seq": 0}}),
    ("reader heard", {"agora:hall": [1], "agora:desk": [1], "agora:*": [1], "pm:reader": [1]}),
    ("insider heard", {"vault:plans": [1], "vault:*": [1], "pm:insider": [1]}),
    (
        "reader registered",
        {
            "agora:hall": {"recovered": True, "seq": 2},
            "agora:*": {"recovered": True, "seq": 2},
            "*:*": {},
            "pm:reader": {"recovered": True, "seq": 2},
            "agora:desk": {"recovered": True, "seq": 2},
        },
    ),
    (
        "insider registered",
        {
            "agora:hall": {"seq": 2},
            "agora:*": {"seq": 2},
            "*:*": {},
            "pm:insider": {"seq": 2},
            "vault:plans": {"recovered": True, "seq": 2},
            "vault:*": {"recovered": True, "seq": 2},
        },
    ),
    ("reader heard", {"agora:hall": [2], "agora:*": [2], "pm:reader": [2], "agora:desk": [2]}),
    ("insider heard", {"vault:plans": [2], "vault:*": [2]}),
    ("joined", (True, 2, None)),
    # Both have left their rooms here.
    ("reader heard", {"agora:hall": [2], "agora:*": [2], "pm:reader": [2], "agora:desk": [2, 1, 2]}),
    ("insider heard", {"vault:plans": [2], "vault:*": [2], "agora:hall": [3], "agora:*": [3]}),
    # Those who are still connected.
    ("members of the log of everybody", 2),
]


class Forgetful(dict[Address, Any]):
    """A process's memory of channels that loses what it is asked for with a probability of ``often``."""

    often = 0.0

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def get(self, address: Address, default: Any = None) -> Any:
        if self._random.random() < self.often:
            self.pop(address, None)
        return super().get(address, default)


def the_node() -> Node:
    node = running()
    assert node is not None
    return node


class Script:
    """Things that clients do one after another, and what comes of each, without what differs from run to run."""

    def __init__(self, bus: LiveBus) -> None:
        self.bus = bus
        self.seen: list[tuple[str, Any]] = []
        self.epochs: dict[str, str] = {}
        self.tokens: dict[str, str] = {}

    async def quiet(self) -> None:
        """All that was begun beside the frames is done."""
        await wait_for(lambda: not the_node().runtime.short_tasks, "nothing under way")

    def note(self, what: str, value: Any) -> None:
        self.seen.append((what, value))

    def registered(self, client: TestClient) -> None:
        rows = {}
        self.tokens[client.client_id] = client.registered["resume_token"]
        for address, row in client.registered["channels"].items():
            self.epochs[address] = row["epoch"]
            rows[address] = {key: value for key, value in row.items() if key != "epoch" and address != "*:*"}
        self.note(f"{client.client_id} registered", rows)

    async def connect(self, name: str, room: str, *, after: dict[str, int] | None = None, **fields: Any) -> TestClient:
        if after is not None:
            positions = {address: {"epoch": self.epochs[address], "seq": seq} for address, seq in after.items()}
            fields["resume"] = {"token": self.tokens[name], "positions": positions}
        client = await self.bus.connect(name, room=room, **fields)
        self.registered(client)
        return client

    async def heard(self, client: TestClient) -> None:
        """The messages that came until now, by log."""
        await self.quiet()
        await client.command("ping")
        logs: dict[str, list[int]] = {}
        for frame in client.frames:
            if "seq" in frame and frame["type"] not in ("ack",):
                logs.setdefault(f"{frame['room']}:{frame['channel']}", []).append(frame["seq"])
        logs.pop("*:*", None)
        self.note(f"{client.client_id} heard", logs)

    async def run(self) -> None:
        writer = await self.connect("writer", f"{OPEN}:door", client_type="insider")
        reader = await self.connect("reader", f"{OPEN}:hall")
        self.epochs[f"{OPEN}:desk"] = (await reader.join(f"{OPEN}:desk"))["epoch"]
        insider = await self.connect("insider", f"{CLOSED}:plans", client_type="insider")
        everywhere = (f"{OPEN}:hall", f"{OPEN}:desk", OPEN, f"{CLOSED}:plans", CLOSED, "pm:reader", "pm:insider")
        for address in everywhere:
            await writer.publish(address, "first")
        await self.heard(reader)
        await self.heard(insider)
        await reader.close()
        await insider.close()
        for address in everywhere:
            await writer.publish(address, "missed")
        reader = await self.connect(
            "reader", f"{OPEN}:hall", after={f"{OPEN}:hall": 1, f"{OPEN}:desk": 1, f"{OPEN}:*": 1, "pm:reader": 1}
        )
        insider = await self.connect(
            "insider", f"{OPEN}:hall", client_type="insider", after={f"{CLOSED}:plans": 1, f"{CLOSED}:*": 1}
        )
        await self.heard(reader)
        await self.heard(insider)
        answer = await reader.join(f"{OPEN}:desk", since=0, epoch=self.epochs[f"{OPEN}:desk"])
        self.note("joined", (answer["recovered"], answer["seq"], answer.get("first_seq")))
        # Who is in no channel of a room hears nothing of it any more: by its own will, or because it may no longer.
        for channel in ("hall", "desk"):
            await reader.command("leave_channel", channel=f"{OPEN}:{channel}")
        await sync_to_async(Grant.objects.filter(pattern__startswith=CLOSED, action="join").update)(allow=False)
        await sync_to_async(access.changed)(access.RULES)
        await insider.expect(event="unsubscribed", channel="plans")
        for address in everywhere[:3]:
            await writer.publish(address, "too late")
        await self.heard(reader)
        await writer.publish(CLOSED, "too late")
        await self.heard(insider)
        for client in (reader, insider):
            await client.close()
        await self.quiet()
        self.note("members of the log of everybody", sum(len(log.members) for log in the_node().hub.of_room("*")))


def _rooms() -> None:
    """A room for all, and a private one with a right to it."""
    for address in (Address(OPEN, "hall"), Address(OPEN, "door"), Address(CLOSED, "plans")):
        ensure(address, SYSTEM)
    update_room(SYSTEM, CLOSED, {"private": True}, door="command")
    for action in ("join", "publish", "history"):
        Grant.objects.create(subject="client_type", subject_name="insider", action=action, pattern=f"{CLOSED}:*")


@pytest.fixture
def told() -> Iterator[list[tuple[Any, ...]]]:
    """What the signals said of whom, and whether it may be told to everybody."""
    rows: list[tuple[Any, ...]] = []

    def of(name: str) -> Callable[..., None]:
        def receive(client: Any, private: bool, room: str = "", activity: str = "", **_: Any) -> None:
            client_id = client["client_id"] if isinstance(client, dict) else client.client_id
            rows.append((name, client_id, room, activity, private))

        return receive

    receivers: list[tuple[Signal, Any]] = [
        (signal, of(name))
        for name, signal in (
            ("connected", signals.client_connected),
            ("disconnected", signals.client_disconnected),
            ("active", signals.client_active),
        )
    ]
    for signal, receiver in receivers:
        signal.connect(receiver)
    yield rows
    for signal, receiver in receivers:
        signal.disconnect(receiver)


@pytest.mark.parametrize(("often", "seed"), [(0.0, 0), (1.0, 1), (0.5, 2), (0.5, 3), (0.2, 4)])
async def test_what_is_forgotten_changes_no_answer(
    live_bus: LiveBus, told: list[tuple[Any, ...]], often: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sync_to_async(_rooms)()
    await live_bus.connect("first")
    node = the_node()
    monkeypatch.setattr(node.channels, "_refs", Forgetful(seed))
    monkeypatch.setattr(Forgetful, "often", often)
    forgetful = Script(live_bus)
    await forgetful.run()
    assert forgetful.seen == EXPECTED
    private = {row for row in told if row[2] == CLOSED}
    assert private, "the private room was used"
    assert {row[4] for row in private} == {True}
    assert {row[4] for row in told if row[2] == OPEN} == {False}
    # The same for clients of a process that died.
    monkeypatch.setattr(Forgetful, "often", 1.0)
    told.clear()
    node.notices.process_died(await node.runtime.run_writer(_a_process_that_died))
    assert sorted((row[1], row[4]) for row in told) == [("ghost", False), ("spy", True)]


def _a_process_that_died() -> list[nodes.Left]:
    nodes.started("dead", "elsewhere", 1, "1")
    for name, address in (("ghost", Address(OPEN, "hall")), ("spy", Address(CLOSED, "plans"))):
        ref = find(address)
        assert ref is not None
        client = Client.objects.create(client_id=name, node_id="dead", connection_id=name)
        Membership.objects.create(client=client, channel_id=ref.id)
    return nodes.stopped("dead")


async def test_a_resume_that_the_database_cannot_be_asked_about_is_no_loss_and_no_refusal(
    live_bus: LiveBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finding: what was not remembered counted as private, and a channel that could not be found as one that is gone."""
    script = Script(live_bus)
    await sync_to_async(_rooms)()
    reader = await script.connect("reader", f"{OPEN}:hall")
    await reader.join(f"{OPEN}:desk")
    script.epochs[f"{OPEN}:desk"] = (await reader.command("channel_info", channel=f"{OPEN}:desk"))["epoch"]
    await reader.publish(f"{OPEN}:desk", "missed")
    token = reader.registered["resume_token"]
    await reader.close()
    node, (ref, _) = the_node(), await sync_to_async(ensure)(Address(OPEN, "desk"), SYSTEM)
    write = node.channels._run_writer

    async def away(*args: Any) -> Any:
        raise OperationalError("the database is away")

    resume = {"token": token, "positions": {f"{OPEN}:desk": {"epoch": ref.epoch, "seq": 0}}}
    again = await live_bus.connect("reader", register=False)
    node.channels.forget(ref.address)
    monkeypatch.setattr(node.channels, "_run_writer", away)
    await again.send({"type": "register", "client_id": "reader", "room": f"{OPEN}:hall", "resume": resume})
    error = (await again.expect("error"))["error"]
    assert error["code"] == "UNAVAILABLE"
    await wait_for(lambda: again.close_code is not None, "the end of the connection")
    assert again.close_code == 4013
    monkeypatch.setattr(node.channels, "_run_writer", write)
    back = await live_bus.connect("reader", room=f"{OPEN}:hall", resume=resume)
    assert back.registered["channels"][f"{OPEN}:desk"] == {"epoch": ref.epoch, "seq": 1, "recovered": True}
