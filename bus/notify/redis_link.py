"""A link over Redis itself, with the hosts, the prefix and the encryption of a layer of channels_redis.

A topic is a channel of Redis's publish and subscribe. So Redis knows which process hears what, and a message costs one command,
however many processes there are. The layer's own way costs fifteen commands, and ten times the time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .link import CALL_TIMEOUT, RECEIVE_TIMEOUT, Post

#: Topics of one command.
TOPICS_TOGETHER = 500
#: Seconds that Redis keeps the note that this link writes to find out whether the server takes writes.
NOTE_SECONDS = 60


class RedisLink:
    """Two connections to one host: one that listens, and one that sends."""

    #: Redis remembers a subscription as long as its connection.
    renewal: float | None = None

    def __init__(
        self, host: dict[str, Any], prefix: str, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
    ) -> None:
        self._host = host
        # Redis's publish and subscribe knows no databases, so the number of ours is part of the names.
        database = _client(host, tries=0).connection_pool.connection_kwargs.get("db") or 0
        self._prefix = f"{prefix}:bus:{database}:" if database else f"{prefix}:bus:"
        self._encode = encode
        self._decode = decode
        self.name = ""
        self._redis: Any = None
        self._listener: Any = None
        self._listening: Any = None
        # Set while there is something to listen to.
        self._subscribed = asyncio.Event()
        # The names whose confirmation is still to come, in their order, and who waits for it.
        self._asked: deque[tuple[bytes, asyncio.Future[None] | None]] = deque()

    async def open(self) -> None:
        """Take a name."""
        self.name = f"arqonbus.{secrets.token_hex(12)}"

    async def close(self) -> None:
        """Close both connections."""
        await self.reconnect()

    # --- sending ------------------------------------------------------------------------------------------------------

    async def send(self, posts: Sequence[Post]) -> None:
        """Publish messages, in one round trip."""
        commands = self._client().pipeline(transaction=False)
        for topic, message in posts:
            commands.publish(self._prefix + topic, self._encode(message))
        async with asyncio.timeout(CALL_TIMEOUT):
            await commands.execute()

    async def check(self) -> None:
        """Find out whether the server takes writes. One that became a replica still takes messages, and nobody hears them."""
        from redis.exceptions import NoPermissionError, OutOfMemoryError

        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                await self._client().set(f"{self._prefix}note", self.name, ex=NOTE_SECONDS)
        except (NoPermissionError, OutOfMemoryError):
            pass  # It may still pass messages on. The echo shows it.

    def _client(self) -> Any:
        if self._redis is None:
            # A connection that was cut while it was idle fails once, and a message may come twice.
            self._redis = _client(self._host, tries=1)
        return self._redis

    # --- receiving ----------------------------------------------------------------------------------------------------

    async def receive(self) -> object:
        """Return the next message. Raises ``ConnectionError`` after the line was broken."""
        while True:
            await self._subscribed.wait()
            listening = self._listening
            try:
                heard = await listening.get_message(timeout=RECEIVE_TIMEOUT)
            except BaseException as problem:
                await self._drop(listening, problem)
                raise
            if heard is None:
                continue
            if heard["type"] == "message":
                return self._decode(heard["data"])
            if heard["type"] == "subscribe" and not self._confirmed(heard["channel"]):
                # The client made a new line by itself, and subscribed to everything again.
                broken = ConnectionError("the line to Redis was broken")
                await self._drop(listening, broken)
                raise broken

    def _confirmed(self, name: bytes) -> bool:
        """Note that Redis confirmed a subscription. Return False for one that nobody asked for."""
        if not self._asked or self._asked[0][0] != name:
            return False
        _, waiting = self._asked.popleft()
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        return True

    async def join(self, topics: Sequence[str]) -> None:
        """Subscribe to topics, and wait for Redis's word."""
        for start in range(0, len(topics), TOPICS_TOGETHER):
            names = [(self._prefix + topic).encode() for topic in topics[start : start + TOPICS_TOGETHER]]
            listening = self._listening
            if listening is None:
                # What was published while a line was broken is lost, so this has to be noticed: nothing is tried again.
                self._listener = _client(self._host, tries=0)
                listening = self._listening = self._listener.pubsub()
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._asked.extend((name, None) for name in names[:-1])
            self._asked.append((names[-1], done))
            try:
                async with asyncio.timeout(CALL_TIMEOUT):
                    await listening.subscribe(*names)
                    self._subscribed.set()
                    await done
            except BaseException as problem:
                await self._drop(listening, problem)
                raise

    async def leave(self, topics: Sequence[str]) -> None:
        """End subscriptions. What is under way still comes."""
        for start in range(0, len(topics), TOPICS_TOGETHER):
            listening = self._listening
            if listening is None:
                return
            async with asyncio.timeout(CALL_TIMEOUT):
                await listening.unsubscribe(
                    *[self._prefix + topic for topic in topics[start : start + TOPICS_TOGETHER]]
                )

    async def _drop(self, listening: Any, problem: BaseException) -> None:
        """Forget the connection that listened; the next :meth:`join` makes another. Who waits is told of ``problem``."""
        if listening is not self._listening:
            return
        self._listening = None
        listener, self._listener = self._listener, None
        self._subscribed.clear()
        asked, self._asked = self._asked, deque()
        for _, waiting in asked:
            if waiting is not None and not waiting.done():
                told = problem if isinstance(problem, Exception) else ConnectionError("the link was closed")
                waiting.set_exception(told)
                waiting.exception()
        await _closed(listening)
        await _ended(listener)

    async def reconnect(self) -> None:
        """Close both connections."""
        redis, self._redis = self._redis, None
        await self._drop(self._listening, ConnectionError("the link was closed"))
        await _ended(redis)


def _client(host: dict[str, Any], *, tries: int) -> Any:
    """A client of a host, which tries a call that failed so many times more."""
    from channels_redis.utils import create_pool
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis(connection_pool=create_pool({**host, "retry": Retry(NoBackoff(), tries)}))


async def _ended(client: Any) -> None:
    """Close a client with all its connections, also those to Sentinel."""
    if client is None:
        return
    await _closed(client, close_connection_pool=True)
    sentinel = getattr(client.connection_pool, "sentinel_manager", None)
    for one in getattr(sentinel, "sentinels", ()):
        await _closed(one, close_connection_pool=True)


async def _closed(connection: Any, **options: bool) -> None:
    """Close a connection, which may be broken and may not even close."""
    if connection is None:
        return
    try:
        async with asyncio.timeout(CALL_TIMEOUT):
            await connection.aclose(**options)
    except Exception:  # noqa: BLE001, S110 - whatever it was, the connection is gone
        pass
