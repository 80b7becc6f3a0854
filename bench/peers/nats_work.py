"""Workers of a JetStream work queue: `python -m bench.peers.nats_work PORT JOBS WORKERS`. Prints the times as JSON.

Each worker fetches one message and acknowledges it, and waits until the server has confirmed that.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import nats
from nats.js.api import RetentionPolicy, StorageType


async def main(port: int, jobs: int, workers: int) -> None:
    """Publish the jobs, let the workers end all of them, and print how long that took."""
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    stream = client.jetstream(publish_async_max_pending=1000)
    await stream.add_stream(
        name="work", subjects=["work"], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE
    )
    for _ in range(0, jobs, 100):
        await asyncio.gather(*(stream.publish("work", b"x" * 200) for _ in range(100)))
    times: list[float] = []
    left = jobs
    connections = [await nats.connect(f"nats://127.0.0.1:{port}") for _ in range(workers)]
    subscriptions = [await one.jetstream().pull_subscribe("work", "workers") for one in connections]
    print("begin", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()

    async def worker(subscription: object) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            start = time.perf_counter()
            (message,) = await subscription.fetch(1, timeout=20)  # type: ignore[attr-defined]
            await message.ack_sync(timeout=20)
            times.append(time.perf_counter() - start)

    await asyncio.gather(*map(worker, subscriptions))
    print(json.dumps({"wall": time.perf_counter() - began, "times": times}), flush=True)


asyncio.run(main(*map(int, sys.argv[1:4])))
