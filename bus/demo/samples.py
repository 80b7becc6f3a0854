"""Leased work of the demo: Ada brings samples to a work channel, and two workers measure them and answer her questions."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import SAMPLES

if TYPE_CHECKING:
    from arqonbus import Bus, Job, Message

#: The shortest and longest time of a measurement, and from one sample to the next one, in seconds.
MEASURING = (3.0, 7.0)
BRINGING = (2.0, 4.5)
#: The producer waits while this many samples are ready. It brings no spoiled one while this many are dead.
MOST_READY, MOST_DEAD = 6, 2
#: Each of these many samples is spoiled: no attempt succeeds.
SPOILED = 7
#: How often a good sample fails, so that it needs another attempt.
FAILURES = 0.12

KINDS = ["soil", "battery cell", "pollen", "dough", "night photo"]


@dataclass
class Worker:
    """A client that measures samples, one after the other."""

    client_id: str
    name: str
    avatar: str
    skills: list[str]
    done: int = 0
    tokens: int = 0

    async def run(self, bus: Bus) -> None:
        """Measure samples for ever. Answer questions meanwhile."""
        bus.answers(self.answer)
        await bus.set_status("idle", task="waiting for samples", tokens=self.tokens)
        async for job in bus.work(SAMPLES):
            async with job:
                await bus.set_status("busy", task=f"measure {job.payload.get('sample')}", tokens=self.tokens)
                await self.measure(job)
                await bus.set_status("idle", task="waiting for samples", tokens=self.tokens)

    async def measure(self, job: Job) -> None:
        """Measure one sample. A failed measurement gives it back for another attempt."""
        await asyncio.sleep(random.uniform(*MEASURING))  # noqa: S311 - a rhythm, no secret
        self.tokens += random.randint(200, 900)  # noqa: S311
        if job.payload.get("spoiled"):
            await job.release(delay=2, error="The jar is cracked: there is nothing to measure.")
        elif random.random() < FAILURES:  # noqa: S311
            await job.release(delay=2, error="The scale drifted. Measure again.")
        else:
            self.done += 1
            job.result({"mass": round(random.uniform(1, 40), 2), "unit": "g"})  # noqa: S311

    async def answer(self, question: Message) -> dict[str, Any]:
        """Answer how far the work is."""
        return {"message": f"{self.done} samples so far.", "done": self.done}


WORKERS = [
    Worker("agent-pia", "Pia", "⚖️", ["measure", "calibrate"]),
    Worker("agent-jon", "Jon", "🔬", ["measure", "photograph"]),
]


async def bring(bus: Bus) -> None:
    """Bring samples for ever. The queue stays short, also when no worker is there."""
    for number in itertools.count(1):
        queue = await bus.jobs(SAMPLES)
        if queue["ready"] < MOST_READY:
            spoiled = number % SPOILED == SPOILED - 1 and queue["dead_count"] < MOST_DEAD
            kind = random.choice(KINDS)  # noqa: S311
            payload: dict[str, Any] = {"sample": f"P-{number}", "kind": kind, **({"spoiled": True} if spoiled else {})}
            await bus.publish(SAMPLES, f"Measure sample P-{number} ({kind}).", payload=payload)
        await asyncio.sleep(random.uniform(*BRINGING))  # noqa: S311


async def ask(bus: Bus, refused: type[Exception]) -> None:
    """Ask one worker how far it is. ``refused`` is the exception of a question that nobody answers."""
    with contextlib.suppress(refused, TimeoutError):
        await bus.ask(random.choice(WORKERS).client_id, "How many samples are done?", timeout=10)  # noqa: S311
