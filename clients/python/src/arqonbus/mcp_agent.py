"""The agent behind the MCP server on standard streams: one client of the bus, and what it has heard and not dealt with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from .bus import Bus
from .connecting import connect
from .errors import ArqonBusError, AskFailed, BusClosed, ConnectionFailed, ServerError
from .mcp_streams import Answers
from .mcp_table import Refused
from .messages import INBOX_ROOM, Message
from .subscription import Subscription

T = TypeVar("T")

#: The keys of a frame that a model gets where a message has them.
_MORE = ("ask", "reply_to", "correlation", "to_message", "error", "steer")


def shown(message: Message) -> dict[str, Any]:
    """Return a message in the form that the tools use."""
    result: dict[str, Any] = {
        "id": message.id,
        "type": message.type,
        "address": message.address,
        "from": message.sender,
        "timestamp": message.raw.get("timestamp"),
        "seq": message.seq,
        "text": message.text,
        "payload": message.payload,
    }
    if message.state is not None:
        result["state"] = message.state
    if message.metadata:
        result["metadata"] = message.metadata
    for key in _MORE:
        if message.raw.get(key):
            result[key] = message.raw[key]
    return result


async def told(work: Awaitable[T]) -> T:
    """Await the result. An error becomes a :class:`Refused` with advice for the model.

    Raises ``BusClosed`` and ``AskFailed`` as they are.
    """
    try:
        return await work
    except ConnectionFailed as problem:
        raise Refused("UNAVAILABLE", f"{problem}. Is the server running? ARQONBUS_URL or --url sets its URL.") from None
    except (AskFailed, BusClosed):
        raise
    except ServerError as problem:
        raise Refused(problem.code, problem.message, list(problem.details)) from None
    except (ArqonBusError, OSError, ValueError) as problem:
        if isinstance(problem, TimeoutError):
            raise Refused("UNAVAILABLE", "The bus did not answer in time. It may be restarting. Try again.") from None
        raise Refused("VALIDATION_ERROR", str(problem)) from None


class Hearing:
    """What the agent hears in one log. A message is first until the mark is behind it."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        #: The seq of the last message that was looked at or marked.
        self.position = 0
        # The message that comes next.
        self._first: Message | None = None
        # Those that grow. What comes behind them does not wait for their ends.
        self._growing: list[Message] = []
        self._coming: asyncio.Future[Message] | None = None

    def dealt(self, seq: int) -> None:
        """Handle that the mark is at ``seq`` now."""
        self.position = max(self.position, seq)
        if self._first is not None and (self._first.seq or 0) <= seq:
            self._first = None

    def passed(self, message: Message) -> None:
        """Pass over a message that nobody asked for."""
        self.dealt(message.seq or 0)

    async def first(self, until: float) -> Message | None:
        """Return the first message, a streamed one when it has ended.

        None at ``until``, a time of the loop: the next call goes on to wait. Raises ``BusClosed``.
        """
        loop = asyncio.get_running_loop()
        while self._first is None:
            left = until - loop.time()
            if not await self._move(max(0.0, left)) and left <= 0:
                return None
        return self._first

    async def _move(self, seconds: float) -> bool:
        """Take what comes next or has ended. Return False if there was nothing within ``seconds``."""
        ended = next((message for message in self._growing if message.state != "open"), None)
        if ended is not None:
            self._growing.remove(ended)
            self._first = ended
            return True
        if self._coming is None:
            self._coming = asyncio.ensure_future(self.subscription.get())
        ends = [asyncio.ensure_future(message.ended()) for message in self._growing]
        try:
            done, _ = await asyncio.wait([self._coming, *ends], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        # One that can never end here, because its growth failed, is no longer waited for.
        known = zip(self._growing, ends, strict=True)
        self._growing = [message for message, end in known if end not in done or message.state != "open"]
        if self._coming.done():
            # What a cancelled call had heard is not lost: the next call takes it here.
            coming, self._coming = self._coming, None
            message = coming.result()
            if message.state == "open":
                self._growing.append(message)
            elif (message.seq or 0) > self.position:
                self._first = message
        return bool(done)

    async def close(self) -> None:
        """End the subscription."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
        await self.subscription.close()


class Agent:
    """The agent's client: one connection, opened at its first use, and one subscription for each log that it hears."""

    def __init__(
        self, url: str, token: str | None, client_id: str | None, room: str | None, identity: str | None = None
    ) -> None:
        self.url = url
        self._token = token
        self._client_id = client_id
        self._room = room
        self._identity = identity
        self._bus: Bus | None = None
        self._heard: dict[str, Hearing] = {}
        self._lock = asyncio.Lock()
        #: The streamed messages that the agent writes.
        self.answers = Answers()

    async def bus(self) -> Bus:
        """Return the connected bus. Raises :class:`Refused` with advice if there is none."""
        async with self._lock:
            if self._bus is None:
                bus = await told(
                    connect(
                        self.url,
                        client_id=self._client_id,
                        identity=self._identity,
                        client_type="ai-agent",
                        token=self._token,
                        room=self._room,
                        buffer=500,
                    )
                )
                # The inbox first: its mark begins here, so the agent misses no private answer from now on.
                address = f"{INBOX_ROOM}:{bus.client_id}"
                # An older version kept the place in the file of the identity.
                kept = bus._identity.inbox if bus._identity is not None and address not in bus.marks else None
                self._heard[address] = Hearing(await told(bus.inbox(since="mark" if kept is None else kept).open()))
                self._bus = bus
            return self._bus

    async def address(self, text: str) -> str:
        """Return the address that a model means."""
        return f"{INBOX_ROOM}:{(await self.bus()).client_id}" if text == "inbox" else text

    async def hear(self, text: str, *, create: bool = True) -> Hearing:
        """Return what the agent hears in a channel, or in its inbox. It joins the channel if needed.

        Without ``create`` the channel must exist.
        """
        bus, address = await self.bus(), await self.address(text)
        async with self._lock:
            known = self._heard.get(address)
            if known is not None and known.subscription.error is None and not known.subscription.closed:
                return known
            if address.startswith(f"{INBOX_ROOM}:"):
                made = bus.inbox(since="mark")
            else:
                if not create:
                    await told(bus.channel_info(address))
                try:
                    made = bus.subscribe(address, since="mark", broadcasts=False)
                except ValueError as problem:
                    raise Refused("INVALID_NAME", str(problem)) from None
            heard = self._heard[address] = Hearing(await told(made.open()))
            return heard

    async def mark(self, text: str, seq: int, *, back: bool = False) -> dict[str, Any]:
        """Move the mark of a log, and begin behind it from now on."""
        bus, address = await self.bus(), await self.address(text)
        marked = await told(bus.mark(address, seq, back=back))
        async with self._lock:
            heard = self._heard.get(address)
            if heard is not None and back:
                del self._heard[address]
                await heard.close()
            elif heard is not None:
                heard.dealt(marked["seq"])
        return {"address": text, "mark": marked["seq"], "unread": marked["unread"]}

    async def close(self) -> None:
        """Close the connection."""
        if self._bus is not None:
            await self.answers.close()
            for heard in self._heard.values():
                await heard.close()
            await self._bus.close()
