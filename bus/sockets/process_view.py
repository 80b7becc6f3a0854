"""The process as the commands of one connection see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ..auth.permissions import HISTORY
from ..commands.base import Process
from ..node import ClientState, Node
from ..node.clients.observers import Followed
from ..protocol.names import Address
from ..realtime.frame import LoggedFrame
from ..services.statuses import Said


class ProcessView(Process):
    """The process as the commands of one connection see it: the node, with this connection as the caller."""

    __slots__ = ("_client", "_node")

    def __init__(self, node: Node, client: ClientState) -> None:
        self._node = node
        self._client = client

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._node.runtime.run(function, *args)

    async def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._node.runtime.ask(function, *args)

    async def run_writer(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._node.runtime.run_writer(function, *args)

    async def join(
        self,
        address: Address,
        since: int | str | None,
        epoch: str | None,
        *,
        parts: bool | None = None,
        last: int | None = None,
    ) -> Any:
        return await self._node.members.join(self._client, address, since, epoch, parts=parts, last=last)

    async def follow(self, room: str, positions: Mapping[str, tuple[int, str | None]]) -> Any:
        return await self._node.observers.follow(self._client, room, positions)

    async def unfollow(self, room: str) -> list[str]:
        return self._node.observers.unfollow(self._client, room)

    async def begin(self, begun: Any) -> None:
        if isinstance(begun, Followed):
            self._node.observers.begin(self._client, begun)
        else:
            await self._node.members.follow(self._client, begun)

    async def leave(self, address: Address) -> list[str]:
        return await self._node.members.leave(self._client, address)

    async def mark(self, address: Address, seq: int, *, back: bool, epoch: str | None, begin: bool) -> Any:
        return await self._node.marks.mark(self._client, address, seq, back=back, epoch=epoch, begin=begin)

    async def claim(self, address: Address, most: int, wait: float, have: tuple[str, ...] | None) -> Any:
        return await self._node.work.claim(self._client, address, most, wait, have)

    async def work(self, operation: Any) -> Any:
        return await self._node.work.carry_out(operation, self._client)

    async def decide(self, function: Callable[[], Any]) -> Any:
        return await self._node.decisions.write(function)

    async def await_decision(self, uid: str, wait: float) -> Any:
        return await self._node.decisions.wait(self._client.actor, uid, wait)

    async def set_status(self, said: Said) -> Any:
        return await self._node.statuses.set(self._client, said)

    def recent(self, address: Address, limit: int) -> list[LoggedFrame] | None:
        node, client = self._node, self._client
        if not address.is_channel:
            return None
        ref = node.channels.known(address)
        stream = node.hub.stream(ref.id) if ref is not None else None
        if ref is None or stream is None or stream.head < 0 or not node.permissions.may(client, HISTORY, ref):
            return None
        return stream.recent_after(max(stream.head - limit, 0))

    @property
    def started_at(self) -> datetime:
        return self._node.runtime.started_at
