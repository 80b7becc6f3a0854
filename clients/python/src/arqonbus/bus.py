"""The asyncio client: one :class:`Bus` is one identity that stays connected."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import errors
from .amending import Amending
from .asking import Asking
from .backoff import Backoff
from .claims import Claims
from .commands import Joined
from .deciding import Deciding
from .errors import BusClosed
from .following import Following, Followings
from .growing import Growing
from .heard import Heard, joinable
from .identity import Identity
from .link import Dial
from .marks import Marked, Marks
from .memberships import Memberships
from .messages import INBOX_ROOM, SERVER, Position, Since, split_address
from .presence import Presence
from .questions import Questions, is_reply
from .states import State
from .streaming import Streaming
from .streams import Streams
from .subscription import Subscription
from .work import Work
from .working import Working

#: How long the end of a bus waits for its last marks and releases, in seconds.
PARTING = 3.0


class Bus(Streaming, Working, Asking, Deciding, Presence, Amending, Following):
    """A client of the bus. :func:`arqonbus.connect` returns it. Use it in one event loop."""

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
        #: The streamed messages of others that grow, and those that this client writes.
        self._growing = Growing()
        self._streams = Streams()
        self._marks = Marks(self)
        self._followings = Followings(self, self._heard)
        self._claims: dict[str, Claims] = {}
        self._works: weakref.WeakSet[Work] = weakref.WeakSet()
        self._questions = Questions()
        self._responder = None
        #: The answer to the registration: role, initial room and channel, logs.
        self.registered: dict[str, Any] = {}
        #: The id that the server gave or confirmed.
        self.client_id = str(description.get("client_id") or "")

    # --- registering and reconnecting --------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The initial channel. A message without an address goes there."""
        return f"{self.registered.get('room')}:{self.registered.get('channel')}"

    @property
    def role(self) -> str:
        """The role that the server gave this client, such as ``admin``."""
        return str(self.registered.get("role") or "")

    @property
    def resume_token(self) -> str | None:
        """The proof of this ``client_id``, for ``connect(resume_token=…)``. None before the first connection. A secret."""
        return self._resume_token

    @property
    def marks(self) -> dict[str, Position]:
        """The known marks of this client, by address: those at its registration, and those that it has moved since."""
        return dict(self._marks.known)

    async def close(self) -> None:
        """Close the connection. Iterators end, jobs in hand are released, waiting requests raise ``BusClosed``."""
        if self._failure is None and self.connected and os.getpid() == self._process:
            with suppress(TimeoutError):
                async with asyncio.timeout(PARTING):
                    await self._works_part()
                    await self._marks.settled(seconds=PARTING)
        await super().close()

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
        """Store the positions that the server confirmed. No message has arrived yet."""
        self.registered = answer
        self.client_id = str(answer["client_id"])
        self._resume_token = answer.get("resume_token")
        if self._identity is not None:
            self._identity.registered(self.client_id, self._resume_token)
        channels: dict[str, dict[str, Any]] = answer.get("channels") or {}
        self._marks.registered(answer)
        self._memberships.members = {address for address in channels if joinable(address)}
        self._heard.registered(channels, frame.get("resume", {}).get("positions", {}))
        self._heard.keep_only(self._wanted())

    def _wanted(self) -> set[str]:
        return self._memberships.wanted() | {self.address}

    def _is_back(self) -> None:
        self._memberships.back()
        self._followings.back()
        self._streams.back()
        self._works_back()
        self._say_status()

    def _ended(self, failure: Exception) -> None:
        for subscription in list(self._heard.all):
            if isinstance(failure, BusClosed):
                subscription._finish()
            else:
                subscription._fail(failure)
        self._growing.fail(failure)
        self._streams.fail(failure)
        self._marks.fail(failure)
        self._questions.fail(failure)
        self._works_end(failure, closed=isinstance(failure, BusClosed))
        self._release()

    # --- received frames ---------------------------------------------------------------------------------------------

    def _receive(self, frame: dict[str, Any]) -> None:
        room, channel, seq = frame.get("room"), frame.get("channel"), frame.get("seq")
        if not isinstance(room, str) or not isinstance(channel, str):
            return
        address = f"{room}:{channel}"
        kind = frame.get("type")
        if kind == "system" and frame.get("from") == SERVER and seq is None:
            self._notice(address, frame)
            return
        if kind == "append" and seq is None and isinstance(frame.get("of"), str):
            self._grow(address, frame)
            return
        if isinstance(seq, int):
            self._heard.came(address, seq)
            if is_reply(frame):
                self._questions.replied(frame)
            if kind == "stream_end":
                self._growing.ended(frame, address)
            elif isinstance(frame.get("stream"), dict):
                self._growing.opened(frame, address)
        for subscription in self._heard.hearing(address):
            subscription._offer(address, frame)

    def _unclaimed(self, request_id: str, frame: dict[str, Any]) -> None:
        if self._questions.waits(request_id):
            error = frame.get("error")
            if isinstance(error, dict):
                self._questions.refused(request_id, errors.from_error(error))
            return
        if not self._late_claims(frame):
            self._streams.answered(request_id, frame)

    def _repeat(self) -> None:
        self._streams.again()

    def _notice(self, address: str, frame: dict[str, Any]) -> None:
        payload = frame.get("payload") or {}
        if self._streams.notice(payload):
            return
        if payload.get("event") == "unsubscribed":
            deleted = payload.get("reason") == "DELETED"
            self._memberships.ended(
                address,
                errors.ChannelNotFound(f"{address} was deleted.")
                if deleted
                else errors.Revoked(f"Your access to {address} was withdrawn."),
            )
            return
        if self._followings.notice(address, payload):
            return
        for subscription in [*self._heard.listeners(address), *self._heard.followers(address)]:
            subscription._notice(frame)

    # --- channels and subscriptions -----------------------------------------------------------------------------------

    def subscribe(
        self,
        address: str,
        *,
        since: Since = None,
        echo: bool = False,
        broadcasts: bool = True,
        presence: bool = False,
        parts: bool = True,
        grow: bool = True,
        buffer: int | None = None,
        auto_mark: bool = False,
        last: int | None = None,
        fold: bool = False,
    ) -> Subscription:
        """Subscribe to ``room:channel``: each message once and in order, also after reconnects. See :class:`Subscription`.

        ``since`` starts after a seq (0: all stored messages), a :class:`Position`, a time, or a period before now. ``echo``
        includes this client's own messages. ``broadcasts`` includes messages to the whole room or to all clients. ``presence``
        includes the server's notices of joins and leaves. ``buffer`` is the number of messages that wait for a slow reader.

        A streamed message is one :class:`Answer` whose text grows. Without ``parts`` its whole text comes with its end. Without
        ``grow`` the opening, the parts and the end are messages as the server sends them.

        ``since="mark"`` starts behind this client's mark, which the server keeps. The first time it starts now. With
        ``auto_mark`` the mark moves behind a message when you request the next one, or when the block ends without an error.

        With ``last`` it starts with so many of the newest messages (at most 100), which come with the answer to the join. With
        ``fold``, :attr:`Message.folded` is the message with its edits, deletion and reactions up to here. ``fold`` implies
        ``echo``.
        """
        return Subscription(
            self,
            address,
            since=since,
            echo=echo,
            broadcasts=broadcasts,
            presence=presence,
            parts=parts,
            grow=grow,
            buffer=buffer or self._buffer,
            auto_mark=auto_mark,
            last=last,
            fold=fold,
        )

    def inbox(
        self, *, since: Since = None, grow: bool = True, buffer: int | None = None, auto_mark: bool = False
    ) -> Subscription:
        """Subscribe to the private messages of this client. ``since=0`` includes the waiting ones.

        ``since="mark"`` and ``auto_mark`` are as in :meth:`subscribe`: the server keeps the place. The next process needs the
        same log-in or token, or the proof of this client.

        With ``connect(identity=…)`` and without ``since``, it continues where the last process with this identity stopped. A
        message is done when the next one is requested, or when its block ends without an error. An unfinished message arrives
        again.
        """
        kept = self._identity if since is None else None
        return Subscription(
            self,
            f"{INBOX_ROOM}:{self.client_id}",
            since=(kept.inbox or 0) if kept is not None else since,
            broadcasts=False,
            grow=grow,
            buffer=buffer or self._buffer,
            keep=kept.done if kept is not None else None,
            auto_mark=auto_mark,
        )

    async def mark(self, address: str, seq: int, *, back: bool = False) -> Marked:
        """Move this client's mark of a log behind the message ``seq``, and return it with the number of unread messages.

        The server keeps it: ``subscribe(address, since="mark")`` begins there, in any process with the same log-in, token or
        proof. A mark moves forward only, unless ``back``. The address of the inbox is ``pm:<client_id>``. Raises
        ``ValidationFailed`` for a seq that is not there yet, ``Forbidden`` …
        """
        if type(seq) is not int or seq < 0:
            raise ValueError("`seq` must be the seq of a message, 0 or more.")
        room, channel = split_address(address)
        return await self._marks.mark(f"{room}:{channel}", seq, None, back=back)

    async def join(self, address: str) -> Joined:
        """Join a channel, and stay a member after reconnects. ``subscribe`` joins by itself. Raises ``Forbidden`` …"""
        return await self._memberships.join(address)

    async def leave(self, address: str) -> list[str]:
        """Leave a channel, and end its subscriptions. Returns the remaining addresses.

        Raises ``NotAMember``.
        """
        return await self._memberships.leave(address)
