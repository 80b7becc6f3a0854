"""A node whose parts are wired and whose regular work has not begun, and clients of it without sockets."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bus.auth.identity import ANONYMOUS
from bus.auth.permissions import Actor
from bus.directory.channels import ChannelRef
from bus.log import Entry, append_batch
from bus.models import Channel, Room
from bus.node import ClientState, Node
from bus.node.upkeep import drain
from bus.protocol.errors import BusError
from bus.protocol.inbound import KIND_PUBLISH, Inbound
from bus.protocol.names import Address
from bus.protocol.registration import Registration
from bus.protocol.state import State
from bus.publishing.entry import entries, random_uid
from bus.realtime.event_writer import EventWriter
from bus.realtime.writer import Bounds
from tests.harness.waiting import wait_for


class NodeClient:
    """A client of a node, and the frames that its writer was given."""

    def __init__(self, node: Node, actor: Actor = ANONYMOUS, address: str = "") -> None:
        self._node = node
        self.frames: list[dict[str, Any]] = []
        #: The close code and the error code with which the node closed it.
        self.closed: tuple[int, str | None] | None = None
        self.events = EventWriter(Bounds(bytes=1 << 26, frames=100_000, deadline=30.0), lambda: None)
        self.state = ClientState(secrets.token_hex(8), actor, peer_address=address)
        self.state.client_id = f"client-{self.state.connection_id}"
        self.state.writer = self.events
        self.state.drop = self._close
        node.admission.enter(self.state)
        self.state.step(State.CONNECTED)

    def _close(self, code: int, error: BusError | None) -> None:
        if self.closed is None:
            self.closed = (code, error.code if error is not None else None)
            self.state.step(State.CLOSING)
            self.events.close(code)

    async def register(self, client_id: str | None = None, **wanted: Any) -> dict[str, Any]:
        """Register, and return the answer's payload."""
        registration = Registration(client_id=client_id, **wanted)
        await self._node.registrations.register(self.state, registration, self.state.actor)
        return await self.event("registered")

    async def join(self, address: str, since: int | str | None = None, epoch: str | None = None) -> Any:
        """Join a channel as the command does, and return the answer."""
        room, channel = address.split(":")
        joined = await self._node.members.join(self.state, Address(room, channel), since, epoch)
        await self._node.members.follow(self.state, joined)
        return joined

    async def disconnect(self, code: int = 1000) -> None:
        """End the connection, as its socket would."""
        self.events.abort()
        await self._node.departures.closed(self.state, code)

    async def frame(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait for a frame, and return it."""

        async def came() -> bool:
            self.frames += map(json.loads, await self.events.next_frames(0.0))
            return any(map(wanted, self.frames))

        await wait_for(came, what)
        return next(filter(wanted, self.frames))

    async def event(self, name: str) -> dict[str, Any]:
        """Wait for a system event, and return its payload."""
        payload: dict[str, Any] = (await self.frame(lambda f: _event_of(f) == name, f"the event {name}"))["payload"]
        return payload

    async def message(self, text: str) -> dict[str, Any]:
        """Wait for a message with this text, and return its frame."""
        return await self.frame(lambda frame: frame.get("message") == text, f"the message {text}")

    def texts(self) -> list[str]:
        """The texts of the messages that came until the last wait, in their order."""
        return [frame["message"] for frame in self.frames if "message" in frame]


def _event_of(frame: dict[str, Any]) -> str | None:
    event: str | None = (frame.get("payload") or {}).get("event")
    return event


class Log:
    """The log of one channel, as another process writes it."""

    def __init__(self, node: Node, ref: ChannelRef) -> None:
        self._node = node
        self.ref = ref

    async def append(self, *texts: str) -> list[Entry]:
        """Append messages without a notification, and return their entries."""
        made = [entry(self.ref, text) for text in texts]
        await self._node.runtime.run_writer(lambda: append_batch(made, window=3600))
        return made

    async def publish(self, *texts: str) -> None:
        """Append messages, and let their notification come."""
        for made in await self.append(*texts):
            assert made.seq is not None
            self._node.streams.committed(self.ref.id, made.seq, made.frame)


def entry(ref: ChannelRef, text: str, *, exclude: ClientState | None = None) -> Entry:
    """A message for a channel."""
    inbound = Inbound(KIND_PUBLISH, "event", message=json.dumps(text).encode())
    return entries(inbound, [ref], "somebody", random_uid, exclude=exclude)[0]


@pytest.fixture
async def node(transactional_db: None) -> AsyncIterator[Node]:
    """A node with a real hub, log and broker, whose database is ready. Nothing runs that the test does not call."""
    made = Node()
    await made.runtime.run_writer(made._prepare, [made.runtime.node_id])
    await made.broker.start()
    yield made
    made.rights.stop()
    made.observers.stop()
    made.streams.stop()
    made.notices.stop()
    for task in made.runtime.short_tasks:
        task.cancel()
    await made.broker.stop()
    if not made.traffic.draining:
        await drain.all_done(made.runtime.end_threads())


@pytest.fixture
async def log(node: Node, fresh_room: str) -> Log:
    """The log of a channel of the test's room."""

    def make() -> None:
        Channel.objects.create(room=Room.objects.create(name=fresh_room), name="hall")

    await node.runtime.run_writer(make)
    return Log(node, await node.channels.resolve(Address(fresh_room, "hall"), ANONYMOUS, create=False))
