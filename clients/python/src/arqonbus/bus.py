"""The asyncio client: one :class:`Bus` is one identity that stays connected (contract §2 to §5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import errors
from .backoff import Backoff
from .commands import Commands, Joined
from .connection import Connection
from .errors import BusClosed
from .heard import Heard, joinable
from .identity import Identity
from .link import Dial
from .memberships import Memberships
from .messages import INBOX_ROOM, SERVER, WHOLE, Receipt, Since, new_id, split_address
from .requests import within
from .states import State
from .subscription import Subscription


class Bus(Connection, Commands):
    """A client of the bus. Made by :func:`arqonbus.connect`; use it in one event loop."""

    def __init__(
        self,
        dial: Dial,
        description: dict[str, Any],
        *,
        identity: Identity | None = None,
        resume_token: str | None = None,
        reconnect: bool = True,
        give_up_after: float | None = None,
        wait: float = 0.0,
        timeout: float = 30.0,
        buffer: int = 1000,
        max_unacked: int = 1000,
        backoff: Backoff | None = None,
        on_state: Callable[[State], None] | None = None,
    ) -> None:
        super().__init__(
            dial,
            reconnect=reconnect,
            give_up_after=give_up_after,
            wait=wait,
            timeout=timeout,
            backoff=backoff,
            on_state=on_state,
        )
        self._description = {key: value for key, value in description.items() if value is not None}
        self._identity = identity
        self._resume_token = resume_token
        self._buffer = buffer
        self._unacked = asyncio.Semaphore(max_unacked)
        self._heard = Heard()
        self._memberships = Memberships(self, self._heard)
        #: The registration's answer: role, initial room and channel, logs.
        self.registered: dict[str, Any] = {}
        #: The id that the server gave or confirmed.
        self.client_id = str(description.get("client_id") or "")

    # --- registering and coming back --------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The initial channel: where a message without an address goes."""
        return f"{self.registered.get('room')}:{self.registered.get('channel')}"

    @property
    def role(self) -> str:
        """What the server takes this client for: ``admin`` or another role."""
        return str(self.registered.get("role") or "")

    @property
    def resume_token(self) -> str | None:
        """The proof of being this ``client_id``, for ``connect(resume_token=…)``; None before it is connected. A secret."""
        return self._resume_token

    def _prepare(self) -> None:
        if self._identity is None:
            return
        self._identity.open(self.client_id or None)
        self.client_id = self._identity.client_id
        self._resume_token = self._resume_token or self._identity.resume_token

    def _release(self) -> None:
        if self._identity is not None:
            self._identity.close()

    def _registration(self) -> dict[str, Any]:
        frame: dict[str, Any] = {"type": "register", **self._description}
        if self.client_id:
            frame["client_id"] = self.client_id
        if self.connections or self._resume_token:
            positions = self._heard.positions(self._wanted()) if self.connections else {}
            frame["resume"] = {"token": self._resume_token, "positions": positions}
        return frame

    def _registered(self, answer: dict[str, Any], frame: dict[str, Any]) -> None:
        """Take over what the server says of every log; nothing of them has come yet."""
        self.registered = answer
        self.client_id = str(answer["client_id"])
        self._resume_token = answer.get("resume_token")
        if self._identity is not None:
            self._identity.registered(self.client_id, self._resume_token)
        channels: dict[str, dict[str, Any]] = answer.get("channels") or {}
        self._memberships.members = {address for address in channels if joinable(address)}
        self._heard.registered(channels, frame.get("resume", {}).get("positions", {}))
        self._heard.keep_only(self._wanted())

    def _wanted(self) -> set[str]:
        return self._memberships.wanted() | {self.address}

    def _is_back(self) -> None:
        self._memberships.back()

    def _ended(self, failure: Exception) -> None:
        for subscription in list(self._heard.all):
            if isinstance(failure, BusClosed):
                subscription._finish()
            else:
                subscription._fail(failure)
        self._release()

    # --- frames in --------------------------------------------------------------------------------------------------

    def _receive(self, frame: dict[str, Any]) -> None:
        room, channel, seq = frame.get("room"), frame.get("channel"), frame.get("seq")
        if not isinstance(room, str) or not isinstance(channel, str):
            return
        address = f"{room}:{channel}"
        if frame.get("type") == "system" and frame.get("from") == SERVER and seq is None:
            self._notice(address, frame)
            return
        if isinstance(seq, int):
            self._heard.came(address, seq)
        for subscription in self._heard.hearing(address):
            subscription._offer(address, frame)

    def _notice(self, address: str, frame: dict[str, Any]) -> None:
        payload = frame.get("payload") or {}
        if payload.get("event") == "unsubscribed":
            deleted = payload.get("reason") == "DELETED"
            self._memberships.ended(
                address,
                errors.ChannelNotFound(f"{address} was deleted.")
                if deleted
                else errors.Revoked(f"Your access to {address} was withdrawn."),
            )
            return
        for subscription in list(self._heard.listeners(address)):
            subscription._notice(frame)

    # --- publishing -------------------------------------------------------------------------------------------------

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
        timeout: float | None = None,
    ) -> Receipt:
        """Publish to ``room:channel`` (or ``room`` for everybody in it; None: the initial channel).

        ``message`` is a text, or a mapping, which is the payload. With ``ack`` it returns when the message is durable, and
        sends it again under the same ``id`` after a break, so that it is published exactly once; ``timeout`` (seconds, by
        default the bus's) bounds the wait. Without ``ack`` it returns when the frame is on the line, and ``seq`` is None.
        ``echo``: the message comes back to this client too; by default when one of its subscriptions asked for that.

        Raises ``Forbidden``, ``InvalidName`` and other ``ServerError``, ``TimeoutError`` (the outcome is unknown: call again
        with the same ``id``), ``ValueError`` for what is not an address, and before anything is sent ``Unsendable`` for values
        that no JSON reader need take and ``TypeError`` for those that are none.
        """
        frame = self._content(type, message, payload, metadata, id)
        if address is not None:
            room, channel = split_address(address)
            if room == INBOX_ROOM:
                return await self.private(channel, message, payload=payload, metadata=metadata, id=id, timeout=timeout)
            frame["room"] = room
            if channel != WHOLE:
                frame["channel"] = channel
        if echo or (echo is None and any(s.echo for s in self._heard.listeners(address or self.address))):
            frame["echo"] = True
        return await self._publish(frame, ack=ack, timeout=timeout)

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
        """Send to one client or several, into their inboxes; returns when it is durable.

        Raises ``TargetNotFound``, whose ``details`` name the unknown targets; the others were served.
        """
        frame = self._content("private", message, payload, metadata, id)
        frame["to"] = [to] if isinstance(to, str) else list(to)
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
                raise TypeError("give the payload once: as `message` or as `payload`")
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
                async with within(seconds, f"There was no connection to send on within {seconds:g} s."):
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
        )

    # --- channels and subscriptions -----------------------------------------------------------------------------------

    def subscribe(
        self,
        address: str,
        *,
        since: Since = None,
        echo: bool = False,
        broadcasts: bool = True,
        presence: bool = False,
        buffer: int | None = None,
    ) -> Subscription:
        """The messages of ``room:channel``, each once and in order, also across reconnects; see :class:`Subscription`.

        ``since``: begin with what came after a seq (0: everything that is kept), a :class:`Position`, a time, or so long ago.
        ``echo``: this client's own messages too. ``broadcasts``: also what is sent to the whole room or to everybody.
        ``presence``: also the server's notices of who joined and left. ``buffer``: messages held for a slow reader.
        """
        return Subscription(
            self,
            address,
            since=since,
            echo=echo,
            broadcasts=broadcasts,
            presence=presence,
            buffer=buffer or self._buffer,
        )

    def inbox(self, *, since: Since = None, buffer: int | None = None) -> Subscription:
        """The private messages to this client; ``since`` 0: with those that wait in the inbox.

        With ``connect(identity=…)`` and without ``since`` it goes on where the last process with this identity left off, the
        first time with what waits. A message counts as done when the next one is asked for, or its block ends without an
        error: one that was being worked on when the process ended comes again.
        """
        kept = self._identity if since is None else None
        return Subscription(
            self,
            f"{INBOX_ROOM}:{self.client_id}",
            since=(kept.inbox or 0) if kept is not None else since,
            broadcasts=False,
            buffer=buffer or self._buffer,
            keep=kept.done if kept is not None else None,
        )

    async def join(self, address: str) -> Joined:
        """Become a member and stay one across reconnects (``subscribe`` does it by itself). Raises ``Forbidden`` …"""
        return await self._memberships.join(address)

    async def leave(self, address: str) -> list[str]:
        """End a membership, and with it the subscriptions of the channel; the addresses of those that are left.

        Raises ``NotAMember``.
        """
        return await self._memberships.leave(address)
