"""Status and directory: what a client says about itself, and who is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from .commands import PAGE
from .errors import ArqonBusError, UnknownCommand
from .publishing import Publishing

logger = logging.getLogger("arqonbus.client")


class Presence(Publishing):
    """The status of this client, and the directory of all."""

    #: The last status, and when it ends by the clock of the loop (None: with the connection).
    _status: tuple[dict[str, Any], float | None] | None = None

    async def set_status(
        self,
        status: str | None = None,
        *,
        task: str | None = None,
        text: str | None = None,
        tokens: int | None = None,
        ttl: float | None = None,
    ) -> dict[str, Any] | None:
        """Say what this client does now. It replaces the last status; without any argument there is none.

        The members of its channels get a notice, and ``clients`` and ``channel_info`` show it. ``tokens`` is a number of your
        own, such as the used ones. The status ends with the connection, or after ``ttl`` seconds. After a reconnect the client
        says it again. Returns the status as the others see it, with ``at`` and ``until``, or None if there is none.
        """
        given = {"status": status, "task": task, "text": text, "tokens": tokens}
        told = {name: value for name, value in given.items() if value is not None}
        end = None if ttl is None else asyncio.get_running_loop().time() + ttl
        before, self._status = self._status, (told, end) if told else None
        try:
            answer = await self._command("set_status", told if ttl is None else {**told, "ttl": ttl})
        except BaseException:
            self._status = before
            raise
        kept: dict[str, Any] | None = answer["status"]
        return kept

    def _say_status(self) -> None:
        """Say the status again on a new connection."""
        if self._status is None:
            return
        told, end = self._status
        left = None if end is None else end - asyncio.get_running_loop().time()
        if left is None or left >= 1:
            self._spawn(self._say({**told} if left is None else {**told, "ttl": left}))

    async def _say(self, told: dict[str, Any]) -> None:
        try:
            await self._command("set_status", told)
        except (ArqonBusError, TimeoutError) as problem:
            logger.warning("the status of this client was not taken: %s", problem)

    async def clients(
        self,
        *,
        type: str | None = None,
        status: str | None = None,
        skill: str | None = None,
        channel: str | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the connected clients that you may see, over all pages: all, or those of a type, status, skill or channel."""
        given = {"type": type, "status": status, "skill": skill, "channel": channel}
        chosen = {name: value for name, value in given.items() if value is not None}
        after: str | None = ""
        while after is not None:
            try:
                page = await self._command("list_clients", {**chosen, "limit": PAGE, "after": after})
            except UnknownCommand:
                if chosen:
                    raise
                async for client in super().clients():  # An older server has no directory.
                    yield client
                return
            for client in page["clients"]:
                yield client
            after = page["next"] or None
