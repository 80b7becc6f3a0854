"""``arqonbus bench``: measure a server from this machine, with acknowledged publishes."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ..bus import Bus
from ..connecting import connect
from ..errors import ChannelNotEmpty, Forbidden
from ..subscription import Subscription
from .failures import Mismatch

#: How long to wait until closed connections are no longer members, in seconds.
LEAVING = 30.0


@dataclass
class Figures:
    """The result: messages, seconds, and latencies in milliseconds."""

    publishers: int
    subscribers: int
    messages: int
    payload_bytes: int
    seconds: float
    published_per_second: float
    delivered: int
    delivered_per_second: float
    ack_ms: dict[str, float]
    delivery_ms: dict[str, float]
    server_limit_per_publisher: float

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as a dictionary for JSON."""
        return asdict(self)


def percentiles(samples: list[float]) -> dict[str, float]:
    """Return p50, p95, p99 and the maximum of times in seconds, as milliseconds."""
    if len(samples) < 2:
        only = samples[0] * 1000 if samples else 0.0
        return dict.fromkeys(("p50", "p95", "p99", "max"), round(only, 3))
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    return {
        "p50": round(cuts[49] * 1000, 3),
        "p95": round(cuts[94] * 1000, 3),
        "p99": round(cuts[98] * 1000, 3),
        "max": round(max(samples) * 1000, 3),
    }


async def run(
    url: str,
    token: str | None,
    *,
    publishers: int,
    subscribers: int,
    messages: int,
    size: int,
    progress: Callable[[int], None],
) -> Figures:
    """Publish ``messages`` acknowledged messages of ``size`` bytes, and wait until all subscribers have received them.

    ``progress`` is called with the number of acks so far. Raises the client's errors. Raises ``Mismatch`` if a subscriber
    received a message twice, not at all, or out of order.
    """
    async with connect(url, token=token, client_type="bench") as keeper, _channel(keeper) as address:
        return await _measure(url, token, address, publishers, subscribers, messages, size, progress)


@asynccontextmanager
async def _channel(keeper: Bus) -> AsyncIterator[str]:
    """Yield the channel of the measurement. An admin gets a new one, deleted afterwards. Others share one."""
    address = f"bench:run-{secrets.token_hex(4)}"
    try:
        await keeper.create_channel(address, description="arqonbus bench; deleted at its end", retention={"age": 3600})
    except Forbidden:
        yield "bench:load"
        return
    try:
        yield address
    finally:
        async with asyncio.timeout(LEAVING):
            while True:
                try:
                    await keeper.delete_channel(address)
                    break
                except ChannelNotEmpty:
                    await asyncio.sleep(0.1)  # The server removes closed connections in a moment.


async def _measure(
    url: str,
    token: str | None,
    address: str,
    publishers: int,
    subscribers: int,
    messages: int,
    size: int,
    progress: Callable[[int], None],
) -> Figures:
    run = secrets.token_hex(8)
    buses: list[Bus] = []
    try:
        for number in range(publishers + subscribers):
            kind = "publisher" if number < publishers else "subscriber"
            buses.append(await connect(url, token=token, client_type=f"bench-{kind}", room=address))
        sending, hearing = buses[:publishers], buses[publishers:]
        subscriptions = [await bus.subscribe(address, buffer=10_000).open() for bus in hearing]
        sent_at: dict[int, float] = {}
        acks: list[float] = []
        arrivals: list[float] = []
        numbers = iter(range(messages))
        filler = "x" * size

        async def publish(bus: Bus) -> None:
            async def one_after_another() -> None:
                for number in numbers:
                    begin = sent_at[number] = time.perf_counter()
                    await bus.publish(address, filler, metadata={"run": run, "n": number})
                    acks.append(time.perf_counter() - begin)
                    progress(len(acks))

            # Each connection has a few messages in flight, so that the server can commit them together.
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(one_after_another())

        async def hear(subscription: Subscription) -> None:
            last, seen = 0, set()
            async for message in subscription:
                if message.metadata.get("run") != run:
                    continue  # This message belongs to another run at the same time.
                arrivals.append(time.perf_counter() - sent_at[message.metadata["n"]])
                if message.seq is None or message.seq <= last:
                    raise Mismatch(f"seq {message.seq} arrived after {last}")
                last = message.seq
                if message.metadata["n"] in seen:
                    raise Mismatch(f"message {message.metadata['n']} arrived twice")
                seen.add(message.metadata["n"])
                if len(seen) == messages:
                    return
            raise Mismatch(f"{len(seen)} of {messages} messages arrived")

        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for subscription in subscriptions:
                group.create_task(hear(subscription))
            for bus in sending:
                group.create_task(publish(bus))
        seconds = time.perf_counter() - begin
        limit = float(sending[0].limits.get("frames_per_second") or 0)
    finally:
        await asyncio.gather(*(bus.close() for bus in buses))
    return Figures(
        publishers,
        subscribers,
        messages,
        size,
        round(seconds, 3),
        round(messages / seconds, 1),
        len(arrivals),
        round(len(arrivals) / seconds, 1),
        percentiles(acks),
        percentiles(arrivals),
        limit,
    )
