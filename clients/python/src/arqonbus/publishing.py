"""Publishing and commands: what a client sends, and the answer to it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from . import tracing
from .commands import Commands
from .connection import Connection
from .heard import Heard
from .messages import INBOX_ROOM, WHOLE, Message, Receipt, moment_of, new_id, split_address, stream_named
from .requests import within


class Publishing(Connection, Commands):
    """A client that publishes messages and sends commands."""

    _heard: Heard
    #: The places for publishes that wait for their acks.
    _unacked: asyncio.Semaphore

    @property
    @abstractmethod
    def address(self) -> str:
        """The initial channel. A message without an address goes there."""

    async def publish(
        self,
        address: str | None,
        message: str | Mapping[str, Any] | None = None,
        *,
        payload: Mapping[str, Any] | None = None,
        type: str = "event",
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        ack: bool = True,
        echo: bool | None = None,
        steer: str | Message | None = None,
        deliver_at: str | datetime | timedelta | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Publish to ``room:channel`` or to a whole ``room``. None means the initial channel.

        ``message`` is a text, or a mapping that becomes the payload. With ``ack`` the call returns when the message is durable.
        After a broken connection it repeats the message under the same ``id``, and the bus keeps it once. ``timeout`` (seconds,
        the bus's by default) limits the wait. Without ``ack`` the call returns when the frame is sent, and ``seq`` is None.
        With ``echo`` this client receives the message too; the default follows its subscriptions. ``steer`` names a streamed
        message of this channel, by its id: its owner gets this message first, and ``Receipt.steered`` says whether it was open.
        ``deliver_at`` delays a job of a work channel: until a time, or for a ``timedelta`` from now.

        Raises ``Forbidden``, ``InvalidName`` and other ``ServerError``. Raises ``TimeoutError`` with an unknown outcome: call
        again with the same ``id``. Raises ``ValueError`` for a wrong address, ``Unsendable`` for values that JSON readers could
        not read, and ``TypeError`` for values that are not JSON.
        """
        frame = self._content(type, message, payload, metadata, id)
        if steer is not None:
            frame["steer"] = stream_named(steer, "steer")
        if deliver_at is not None:
            frame["deliver_at"] = moment_of(-deliver_at if isinstance(deliver_at, timedelta) else deliver_at)
        if address is not None:
            room, channel = split_address(address)
            if room == INBOX_ROOM and steer is None:
                return await self.private(channel, message, payload=payload, metadata=metadata, id=id, timeout=timeout)
            self._direct(frame, room, channel)
        self._want_echo(frame, address, echo)
        with tracing.publishing(frame, address or self.address):
            return await self._publish(frame, ack=ack, timeout=timeout)

    @staticmethod
    def _direct(frame: dict[str, Any], room: str, channel: str) -> None:
        """Address a frame to a channel, a room or an inbox."""
        if room == INBOX_ROOM:
            frame["type"], frame["to"] = "private", [channel]
            return
        frame["room"] = room
        if channel != WHOLE:
            frame["channel"] = channel

    def _want_echo(self, frame: dict[str, Any], address: str | None, echo: bool | None) -> None:
        if echo or (echo is None and any(s.echo for s in self._heard.listeners(address or self.address))):
            frame["echo"] = True

    async def private(
        self,
        to: str | Iterable[str],
        message: str | Mapping[str, Any] | None = None,
        *,
        payload: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Send a message to the inboxes of one or several clients. It returns when the message is durable.

        Raises ``TargetNotFound``, whose ``details`` name the unknown targets. The others received the message.
        """
        frame = self._content("private", message, payload, metadata, id)
        frame["to"] = [to] if isinstance(to, str) else list(to)
        with tracing.publishing(frame, INBOX_ROOM):
            return await self._publish(frame, ack=True, timeout=timeout)

    @staticmethod
    def _content(
        type: str,
        message: str | Mapping[str, Any] | None,
        payload: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        id: str | None,
    ) -> dict[str, Any]:
        frame: dict[str, Any] = {"type": type, "id": id or new_id()}
        if isinstance(message, Mapping):
            if payload is not None:
                raise TypeError("Give the payload either as `message` or as `payload`.")
            payload = message
        elif message is not None:
            frame["message"] = message
        if payload is not None:
            frame["payload"] = dict(payload)
        if metadata is not None:
            frame["metadata"] = dict(metadata)
        return frame

    async def _publish(self, frame: dict[str, Any], *, ack: bool, timeout: float | None) -> Receipt:
        async with self._unacked:
            if not ack:
                text = self._encoded(frame)
                seconds = self._timeout if timeout is None else timeout
                async with within(seconds, f"There was no connection within {seconds:g} s."):
                    while True:
                        await self.wait_connected()
                        await self._pacer.turn()
                        link = self._link
                        if link is not None and self._up.is_set() and await link.send(text):
                            return Receipt(frame["id"], frame.get("room", ""), frame.get("channel", WHOLE), None)
            frame["ack"] = True
            answer = await self._request(frame, repeat=True, timeout=timeout)
        return Receipt(
            frame["id"],
            answer["room"],
            answer["channel"],
            answer.get("seq"),
            bool(answer.get("duplicate", False)),
            tuple(answer.get("unproven") or ()),
            answer.get("steered"),
            kept=answer.get("kept", True) is not False,
        )

    async def _command(
        self, name: str, parameters: dict[str, Any] | None = None, *, repeat: bool = True, timeout: float | None = None
    ) -> dict[str, Any]:
        frame = {"type": "command", "id": new_id(), "command": name, "parameters": parameters or {}}
        answer = await self._request(frame, repeat=repeat, timeout=timeout)
        result: dict[str, Any] = answer["result"]
        return result
