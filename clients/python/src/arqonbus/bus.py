"""The asyncio client: one :class:`Bus` is one identity that stays connected (contract §2 to §5)."""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, NoReturn

from . import errors
from .backoff import Backoff
from .commands import Commands, Joined
from .connection import Connection, State
from .errors import ArqonBusError, BusClosed, ConnectionLost, ServerError
from .link import Dial, Token
from .messages import INBOX_ROOM, SERVER, WHOLE, Position, Receipt, Since, moment_of, new_id, split_address
from .subscription import Subscription

logger = logging.getLogger("arqonbus.client")


class Bus(Connection, Commands):
    """A client of the bus. Made by :func:`connect`; use it in one event loop."""

    def __init__(
        self,
        dial: Dial,
        identity: dict[str, Any],
        *,
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
        self._identity = {key: value for key, value in identity.items() if value is not None}
        self._buffer = buffer
        self._unacked = asyncio.Semaphore(max_unacked)
        self._resume_token: str | None = None
        #: Every log that reaches this client: how far it came, for the next registration.
        self._logs: dict[str, Position] = {}
        #: Channels that were joined by ``join`` and stay, whatever subscriptions come and go.
        self._kept: set[str] = set()
        self._members: set[str] = set()
        self._subscriptions: dict[str, weakref.WeakSet[Subscription]] = {}
        self._all: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._joining = asyncio.Lock()
        #: The registration's answer: role, initial room and channel, logs.
        self.registered: dict[str, Any] = {}
        self.client_id = str(identity.get("client_id") or "")

    # --- registering and coming back --------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The initial channel: where a message without an address goes."""
        return f"{self.registered.get('room')}:{self.registered.get('channel')}"

    @property
    def role(self) -> str:
        """What the server takes this client for: ``admin`` or another role."""
        return str(self.registered.get("role") or "")

    def _registration(self) -> dict[str, Any]:
        frame: dict[str, Any] = {"type": "register", **self._identity}
        if self.client_id:
            frame["client_id"] = self.client_id
        if self.connections:
            positions = {address: {"epoch": at.epoch or "", "seq": at.seq} for address, at in self._logs.items()}
            frame["resume"] = {"token": self._resume_token, "positions": positions}
        return frame

    def _registered(self, answer: dict[str, Any], frame: dict[str, Any]) -> None:
        """Take over what the server says of every log; nothing of them has come yet."""
        asked: dict[str, dict[str, Any]] = frame.get("resume", {}).get("positions", {})
        self.registered = answer
        self.client_id = str(answer["client_id"])
        self._resume_token = answer.get("resume_token")
        channels: dict[str, dict[str, Any]] = answer.get("channels") or {}
        self._members = {address for address in channels if _joinable(address)}
        for address in [address for address in self._logs if address not in channels]:
            if not _joinable(address):
                del self._logs[address]
        for address, row in channels.items():
            before = asked.get(address)
            if before is None:
                self._logs[address] = Position(row["seq"], row["epoch"])
            elif row.get("recovered") is False:
                start = row["first_seq"] - 1
                self._logs[address] = Position(start, row["epoch"])
                for subscription in self._all:
                    if subscription._wants(address):
                        subscription._begin(address, start, gap=True)
            else:
                self._logs[address] = Position(before["seq"], row["epoch"])

    def _is_back(self) -> None:
        wanted = self._kept | {subscription.address for subscription in self._all if subscription.wants_membership}
        for address in wanted - self._members:
            self._spawn(self._rejoin(address))

    async def _rejoin(self, address: str) -> None:
        """A channel that the server did not take us back into by itself."""
        try:
            await self._join(address, self._logs.get(address))
        except ServerError as problem:
            self._kept.discard(address)
            for subscription in list(self._subscriptions.get(address, ())):
                subscription._fail(problem)
        except (ConnectionLost, TimeoutError, BusClosed):
            logger.debug("rejoining waits for the next connection")

    def _ended(self, failure: Exception) -> None:
        for subscription in list(self._all):
            if isinstance(failure, BusClosed):
                subscription._finish()
            else:
                subscription._fail(failure)

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
            at = self._logs.get(address)
            if at is None or seq > at.seq:
                self._logs[address] = Position(seq, at.epoch if at else None)
        for subscription in self._listeners(room, channel, address):
            subscription._offer(address, frame)

    def _listeners(self, room: str, channel: str, address: str) -> Iterable[Subscription]:
        if channel == WHOLE:
            return [subscription for subscription in self._all if subscription._wants(address)]
        return list(self._subscriptions.get(address, ()))

    def _notice(self, address: str, frame: dict[str, Any]) -> None:
        payload = frame.get("payload") or {}
        listeners = list(self._subscriptions.get(address, ()))
        if payload.get("event") == "unsubscribed":
            self._kept.discard(address)
            self._forget(address)
            for subscription in listeners:
                subscription._fail(
                    errors.ChannelNotFound(f"{address} was deleted.")
                    if payload.get("reason") == "DELETED"
                    else errors.Revoked(f"Your access to {address} was withdrawn.")
                )
            return
        for subscription in listeners:
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
        with the same ``id``), ``ValueError`` for what is no address, ``TypeError`` for values that JSON cannot hold.
        """
        frame = self._content(type, message, payload, metadata, id)
        if address is not None:
            room, channel = split_address(address)
            if room == INBOX_ROOM:
                return await self.private(channel, message, payload=payload, metadata=metadata, id=id, timeout=timeout)
            frame["room"] = room
            if channel != WHOLE:
                frame["channel"] = channel
        if echo or (echo is None and any(s.echo for s in self._subscriptions.get(address or self.address, ()))):
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
                async with asyncio.timeout(self._timeout if timeout is None else timeout):
                    while True:
                        await self.wait_connected()
                        await self._pacer.turn()
                        link = self._link
                        if link is not None and self._up.is_set() and await link.send(text):
                            return Receipt(frame["id"], frame.get("room", ""), frame.get("channel", WHOLE), None)
            frame["ack"] = True
            answer = await self._request(frame, repeat=True, timeout=timeout)
        return Receipt(
            frame["id"], answer["room"], answer["channel"], answer.get("seq"), bool(answer.get("duplicate", False))
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
        """The private messages to this client; ``since`` 0: with those that wait in the inbox."""
        return Subscription(
            self, f"{INBOX_ROOM}:{self.client_id}", since=since, broadcasts=False, buffer=buffer or self._buffer
        )

    async def join(self, address: str) -> Joined:
        """Become a member and stay one across reconnects (``subscribe`` does it by itself). Raises ``Forbidden`` …"""
        joined = await self._join(address, None)
        self._kept.add(address)
        return joined

    async def leave(self, address: str) -> list[str]:
        """End a membership; the addresses of those that are left. Raises ``NotAMember``."""
        self._kept.discard(address)
        result = await self._command("leave_channel", {"channel": address}, repeat=False)
        self._forget(address)
        left: list[str] = result["channels"]
        return left

    def _forget(self, address: str) -> None:
        """This client is no member any more: the log comes no longer, nor with its last channel the room's own."""
        self._members.discard(address)
        self._logs.pop(address, None)
        room = address.partition(":")[0]
        if not any(other.startswith(f"{room}:") for other in self._members):
            self._logs.pop(f"{room}:{WHOLE}", None)

    async def _join(
        self, address: str, since: Position | None, activate: Callable[[dict[str, Any]], None] | None = None
    ) -> Joined:
        """Join; ``activate`` is called with the result before any frame that follows the answer is looked at."""
        parameters: dict[str, Any] = {"channel": address}
        if since is not None:
            parameters["since"] = since.seq
            if since.epoch:
                parameters["epoch"] = since.epoch

        def joined(answer: dict[str, Any]) -> None:
            result = answer["result"]
            self._members.add(address)
            if since is not None:
                lost = result.get("recovered") is False
                self._logs[address] = Position(result["first_seq"] - 1 if lost else since.seq, result["epoch"])
            elif address not in self._logs:
                self._logs[address] = Position(result["seq"], result["epoch"])
            # The room's own log comes with the first of its channels.
            for log, at in result["positions"].items():
                self._logs.setdefault(log, Position(at["seq"], at["epoch"]))
            if activate is not None:
                activate(result)

        frame = {"type": "command", "id": new_id(), "command": "join_channel", "parameters": parameters}
        answer = await self._request(frame, repeat=True, timeout=None, on_answer=joined)
        result: Joined = answer["result"]
        return result

    async def _attach(self, subscription: Subscription) -> None:
        """Begin a subscription: from the answer on, every frame reaches it."""
        address = subscription.address
        await self.wait_connected()
        if not subscription.joinable:
            since = await self._seq_of(address, subscription.since)
            if since is not None:
                subscription._begin(address, since.seq)
                subscription._follow(address)
            self._add(subscription)
            return
        async with self._joining:
            since = await self._seq_of(address, subscription.since)

            def activate(result: Mapping[str, Any]) -> None:
                if since is None:
                    # Another iterator's `since` makes the server send older messages again; they are not for this one.
                    subscription._begin(address, result["seq"])
                else:
                    lost = result.get("recovered") is False
                    start = result["first_seq"] - 1 if lost else since.seq
                    subscription._begin(address, start, gap=lost and since.seq > 0)
                self._add(subscription)

            await self._join(address, since, activate)

    def _add(self, subscription: Subscription) -> None:
        self._subscriptions.setdefault(subscription.address, weakref.WeakSet()).add(subscription)
        self._all.add(subscription)
        loop = asyncio.get_running_loop()
        weakref.finalize(subscription, self._forgotten, loop, subscription.address).atexit = False

    async def _seq_of(self, address: str, since: Since) -> Position | None:
        """A ``since`` as a seq. Raises ``ValueError`` for a text that is no time, ``Forbidden`` …"""
        if since is None or isinstance(since, Position):
            return since
        if isinstance(since, int):
            return Position(since)
        moment = moment_of(since)
        try:
            head = (await self.channel_info(address))["seq"] if _joinable(address) else self._logs[address].seq
            page = await self.history_page(address, after=moment, limit=1)
        except (errors.NotFound, KeyError):
            return Position(0)
        first = page.messages[0].seq if page.messages else None
        return Position(head if first is None else min(head, first - 1))

    def _epoch_of(self, address: str) -> str | None:
        at = self._logs.get(address)
        return at.epoch if at else None

    async def _detach(self, subscription: Subscription) -> None:
        """A subscription ended: leave its channel if nothing else here needs it."""
        self._all.discard(subscription)
        self._subscriptions.get(subscription.address, weakref.WeakSet()).discard(subscription)
        await self._leave_unused(subscription.address)

    async def _leave_unused(self, address: str) -> None:
        if not self._subscriptions.get(address):
            self._subscriptions.pop(address, None)
        if (
            not _joinable(address)
            or self._subscriptions.get(address)
            or address in self._kept
            or address == self.address
            or address not in self._members
            or self._failure is not None
            or not self._up.is_set()
        ):
            return
        try:
            await self.leave(address)
        except (ArqonBusError, TimeoutError) as problem:
            logger.debug("leaving %s: %s", address, problem)

    def _forgotten(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        """A subscription was collected, perhaps in another thread."""
        if not loop.is_closed() and self._failure is None:
            loop.call_soon_threadsafe(lambda: self._spawn(self._leave_unused(address)))


def _joinable(address: str) -> bool:
    room, _, channel = address.partition(":")
    return room not in (INBOX_ROOM, WHOLE) and channel != WHOLE


class _Connecting:
    """What :func:`connect` returns: await it for a :class:`Bus`, or use it in ``async with``."""

    def __init__(self, make: Callable[[], Bus]) -> None:
        self._make = make
        self._bus: Bus | None = None

    def __await__(self) -> Generator[Any, None, Bus]:
        return self._make().open().__await__()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"there is no {name!r} before it is connected: `async with connect(…) as bus`, or `bus = await connect(…)`"
        )

    def __enter__(self) -> NoReturn:
        raise TypeError("use `async with`; for code without an event loop there is `arqonbus.sync.connect`")

    def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> Bus:
        self._bus = self._make()
        return await self._bus.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._bus is not None
        await self._bus.close()


def connect(
    url: str = "ws://localhost:8765/",
    *,
    client_id: str | None = None,
    client_type: str = "app",
    token: Token = None,
    room: str | None = None,
    channel: str | None = None,
    screen_name: str | None = None,
    avatar: str | None = None,
    personality: Mapping[str, Any] | None = None,
    reconnect: bool = True,
    give_up_after: float | None = None,
    wait: float = 0.0,
    timeout: float = 30.0,
    buffer: int = 1000,
    max_unacked: int = 1000,
    backoff: Backoff | None = None,
    headers: Mapping[str, str] | None = None,
    ssl: ssl_module.SSLContext | None = None,
    open_timeout: float = 10.0,
    ping_interval: float | None = 20.0,
    ping_timeout: float | None = 20.0,
    on_state: Callable[[State], None] | None = None,
) -> _Connecting:
    """Connect to a bus: ``async with connect(url, client_id="me") as bus`` or ``bus = await connect(url)``.

    ``client_id`` … ``personality`` are the registration of the contract's §3 (``room`` may be ``"science:explore"``);
    ``token`` is an access token or JWT, sent as a header, or a function (plain or ``async``) that gives a fresh one for each
    connection, as one that expires needs. All times are in seconds: ``wait`` is how long the server may take to
    appear (0: one attempt), ``give_up_after`` how long a broken connection is tried again (None: for ever), ``timeout`` how
    long a request may take, breaks included. ``max_unacked`` publishes wait for their acks at once, further ones wait for a
    place. ``on_state`` is called with each new :class:`State`.

    Raises ``ConnectionFailed`` when nobody answers, ``ClosedByServer`` or ``ServerError`` when the server refuses.
    """
    dial = Dial(url, token, dict(headers or {}), ssl, open_timeout, ping_interval, ping_timeout)
    identity: dict[str, Any] = {
        "client_id": client_id,
        "client_type": client_type,
        "room": room,
        "channel": channel,
        "screen_name": screen_name,
        "avatar": avatar,
        "personality": dict(personality) if personality is not None else None,
    }
    return _Connecting(
        lambda: Bus(
            dial,
            identity,
            reconnect=reconnect,
            give_up_after=give_up_after,
            wait=wait,
            timeout=timeout,
            buffer=buffer,
            max_unacked=max_unacked,
            backoff=backoff,
            on_state=on_state,
        )
    )
