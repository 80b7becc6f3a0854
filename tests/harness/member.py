"""A client that behaves as a careful application's: it comes back with its positions, and repeats what was not answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.harness.client import Observer, WireClient, WireError, new_id
from tests.harness.server import BusServer

#: Answers after which a careful publisher sends the same message again.
AGAIN = frozenset({"UNAVAILABLE", "OUTCOME_UNKNOWN", "BUSY", "RESTARTING", "RATE_LIMITED"})


class Member:
    """A client that comes back, to any of its servers, whenever its connection ends."""

    def __init__(self, servers: Sequence[BusServer], recorder: Observer | None, **registration: Any) -> None:
        self.servers = list(servers)
        self.client: WireClient
        self.connections = 0
        self.codes: list[int] = []
        """How each connection ended."""
        self._recorder = recorder
        self._registration = registration
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, *joins: str) -> Member:
        """Connect to the first server, join the channels given as `room:channel`, and stay from now on."""
        self.client = await WireClient.connect(self.servers[0].url, recorder=self._recorder, **self._registration)
        for address in joins:
            room, _, channel = address.partition(":")
            await self.client.join(room, channel)
        self.connections = 1
        self._up.set()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def _keep(self) -> None:
        turn = 0
        while True:
            self.codes.append(await self.client.wait_closed(timeout=3600))
            self._up.clear()
            while True:
                turn += 1
                url = self.servers[turn % len(self.servers)].url
                try:
                    self.client = await self.client.reconnect(url=url, timeout=20)
                    break
                except (OSError, InvalidHandshake, AssertionError, ConnectionClosed):
                    await asyncio.sleep(0.1)
            self.connections += 1
            self._up.set()

    async def connected(self) -> WireClient:
        """The living connection, once there is one."""
        await self._up.wait()
        return self.client

    async def publish(self, message: str, **fields: Any) -> dict[str, Any]:
        """Publish one message, again and again under the same id until it is acknowledged; the ack."""
        message_id = new_id()
        while True:
            client = await self.connected()
            try:
                return await client.publish(message, ack=True, message_id=message_id, timeout=10, **fields)
            except WireError as error:
                if error.code not in AGAIN:
                    raise
                await asyncio.sleep(0.1)
            except (AssertionError, ConnectionClosed):
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Come back no more, and close."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self.client.close()
