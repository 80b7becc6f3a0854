"""Connections without a socket: a real node, and a writer that keeps the frames."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bus.auth.permissions import Actor
from bus.node import Node, current
from bus.protocol.state import State
from bus.realtime.frame import Batch
from bus.realtime.writer import Bounds, Writer
from bus.sockets import dispatch
from bus.sockets.connection import Connection
from bus.testing import live_bus


class KeepingWriter(Writer):
    """Keeps what is written, and the close code."""

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        super().__init__(Bounds(), on_overflow)
        self.written: list[dict[str, Any]] = []
        self.code: int | None = None

    def _write(self, batch: Batch) -> None:
        self.written += [json.loads(payload) for payload in batch.payloads]

    def buffered(self) -> int:
        return 0

    def close(self, code: int) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            self.code = code

    def abort(self) -> None:
        self.closed = True


class Client:
    """A connection of the node, as its consumer drives it."""

    def __init__(self, node: Node, actor: Actor | None, query: dict[str, str] | None) -> None:
        self.connection = Connection(node, actor, peer_address="127.0.0.1", query=query)
        self.writer = KeepingWriter(self.connection.overflow)
        self.connection.writer = self.connection.client.writer = self.writer

    async def send(self, **frame: Any) -> None:
        """One frame comes, and is served to its end."""
        await dispatch.serve(self.connection, json.dumps(frame).encode())

    def frames(self) -> list[dict[str, Any]]:
        """What the client has been sent."""
        self.writer.flush()
        return self.writer.written

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self.connection.client.state

    def codes(self) -> list[str]:
        """The codes of the errors that it was sent."""
        return [frame["error"]["code"] for frame in self.frames() if frame["type"] == "error"]

    def events(self) -> list[str]:
        """The events of the system frames that it was sent."""
        return [frame["payload"]["event"] for frame in self.frames() if frame["type"] == "system"]


@pytest.fixture
async def node(transactional_db: None) -> AsyncIterator[Node]:
    """The node of the test's event loop, at work."""
    async with live_bus():
        node = current()
        await node.start()
        yield node


Connect = Callable[..., Client]


@pytest.fixture
async def connect(node: Node) -> AsyncIterator[Connect]:
    """Make connections, which end with the test."""
    made: list[Client] = []

    def make(actor: Actor | None = None, **query: str) -> Client:
        client = Client(node, actor, query)
        made.append(client)
        return client

    yield make
    for client in made:
        if client.connection.client.state is not State.CLOSED:
            await client.connection.closed(1000)
