"""Owners of streamed messages for the tests of a node: their entries take the way of the log's writer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from bus.directory.channels import ChannelRef
from bus.log import Entry, Opening, Part, Steer, append_batch
from bus.log.effects import Effect
from bus.node import ClientState, Node
from bus.protocol import frames, growing
from bus.protocol.inbound import KIND_PUBLISH, Inbound
from bus.publishing.announce import announce
from bus.services.streams import Adopted

ENOUGH = 262144


class Owner:
    """The owner of one streamed message in a log. `exclude` is its connection, if it has one."""

    def __init__(
        self,
        node: Node,
        ref: ChannelRef,
        of: str = "arq_a1",
        *,
        mode: str = "text",
        exclude: ClientState | None = None,
        client_id: str = "owner",
        principal: str = "",
        token: str | None = None,
    ) -> None:
        self.node, self.ref, self.of, self.mode = node, ref, of, mode
        self.exclude, self.client_id, self.principal, self.token = exclude, client_id, principal, token
        self.n = 0

    @classmethod
    def after(cls, adopted: Adopted, node: Node, ref: ChannelRef) -> Owner:
        """The owner after an adoption."""
        state = adopted.state
        owner = cls(node, ref, state.uid, client_id=state.client_id, principal=state.principal, token=adopted.token)
        owner.n = state.have
        return owner

    def opening(self) -> Entry:
        """The entry that opens it."""
        return self._message(self.of, Opening(self.mode, self.client_id, self.principal), b"{}")

    def part(self, content: Any = None, *, n: int | None = None, end: str | None = None) -> Entry:
        """The entry of the next part, or of part `n`, or of the end."""
        if n is None:
            self.n += content is not None
            n = self.n
        data = b"" if content is None else msgspec.json.encode(content)
        mode = "" if content is None else self.mode
        effect = Part(
            self.of,
            n,
            mode,
            data[1:-1] if mode == "text" else data,
            self.client_id,
            self.principal,
            max_bytes=ENOUGH,
            end=end,
            token=self.token,
        )
        head = b"" if end is None else growing.stream_end_head(self.of, None, self.ref.address, self.client_id)
        uid = self.of if end is None else growing.end_uid(self.of, None)
        return Entry(
            self.ref.id,
            head,
            b"",
            uid,
            growing.STREAM_END,
            self.client_id,
            exclude=self.exclude,
            context=self.ref,
            effect=effect,
        )

    def steer(self, uid: str, text: str = "turn") -> Entry:
        """The entry of a message that steers it."""
        return self._message(uid, Steer(self.of), b'{"to":"%b"}' % text.encode())

    def _message(self, uid: str, effect: Effect, payload: bytes) -> Entry:
        inbound = Inbound(KIND_PUBLISH, "event", payload=payload)
        if isinstance(effect, Opening):
            inbound.stream = effect.mode
        elif isinstance(effect, Steer):
            inbound.steer = effect.of
        head = frames.message_head(uid, "event", self.ref.address, self.client_id)
        return Entry(
            self.ref.id,
            head,
            frames.message_tail(inbound),
            uid,
            "event",
            self.client_id,
            exclude=self.exclude,
            context=self.ref,
            effect=effect,
        )

    async def write(self, *entries: Entry) -> list[Entry]:
        """Commit entries as a socket's, and wait for their announcement."""
        waits = []
        for entry in entries:
            done: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
            entry.done = done.set_result
            self.node.log.append(entry)
            waits.append(done)
        return _accepted(await asyncio.gather(*waits))

    async def open(self) -> None:
        """Open it."""
        await self.write(self.opening())

    async def say(self, *contents: Any) -> None:
        """Add parts."""
        await self.write(*(self.part(content) for content in contents))

    async def end(self, state: str = "complete") -> None:
        """End it."""
        await self.write(self.part(end=state))

    async def write_unheard(self, *entries: Entry) -> list[Entry]:
        """Commit entries as another process whose notifications are lost."""
        await self.node.runtime.run_writer(lambda: append_batch(entries, window=3600))
        return _accepted(entries)

    async def write_apart(self, *entries: Entry) -> list[Entry]:
        """Commit entries in another thread of the process, as REST does."""
        await self.write_unheard(*entries)
        await asyncio.to_thread(announce, entries)
        return list(entries)


def _accepted(entries: Any) -> list[Entry]:
    for entry in entries:
        assert entry.error is None, entry.error
    return list(entries)


def reading(found: list[dict[str, Any]], of: str = "arq_a1") -> tuple[str, int]:
    """What a reader of these frames has, by the rule of docs/protocol.md: the text, and the number of the last part."""
    text, have = "", 0
    for frame in found:
        if frame.get("of") != of:
            continue
        if frame["type"] == "stream_end":
            return frame["message"], frame["stream"]["parts"]
        if frame.get("snapshot"):
            text, have = frame["text"], frame["upto"]
        elif frame["type"] == "append" and frame["n"] == have + 1:
            text, have = text + frame["delta"], have + 1
    return text, have
