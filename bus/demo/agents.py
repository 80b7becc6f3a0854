"""A small laboratory: each agent follows one step of the scientific method and works on the next.

``python -m bus.demo.agents ws://localhost:8765/`` runs until its standard input ends. It uses only the Python client.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import arqonbus
except ImportError:  # A clone of the project has the client beside the server, installed or not.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python" / "src"))
    import arqonbus

from . import SAMPLES
from .samples import WORKERS, Worker, ask, bring

ROOM = "science"
#: The longest and shortest time until an agent answers, in seconds.
SLOWEST, FASTEST = 2.5, 0.6
#: Seconds that an agent waits for a message before it goes on by itself.
PATIENCE = 4.0

#: Question, hypothesis, experiment, measured value (name, unit, low, high) and finding of each study.
STUDIES = [
    (
        "Seedlings on the south bench grow a third faster than their siblings. Why only there?",
        "The bench is warmer at night: its wall holds the heat of the day.",
        "Move half of the south pots north for ten days, log soil temperature every hour.",
        ("soil temperature", "°C", 17.2, 23.9),
        "Growth follows the night temperature; light makes no difference.",
    ),
    (
        "Battery packs from line 4 lose 6 % in their first week, others 2 %. What differs?",
        "Line 4 rests its cells too briefly between forming cycles.",
        "Three groups of twenty cells, resting 2, 6 and 12 hours.",
        ("capacity left", "%", 91.0, 98.6),
        "Six hours of rest are enough; twelve add nothing.",
    ),
    (
        "The night traffic sensors report ghosts whenever it rains. Rain, or the wet road?",
        "Headlights mirrored by the wet asphalt are counted as second cars.",
        "Polarising filters on every other sensor along the ring road, two rainy nights.",
        ("ghosts in an hour", "", 0.0, 41.0),
        "Filters remove 97 % of the ghosts. It is the reflection.",
    ),
    (
        "Bees of hive 7 dance longer than those of hive 3 for the same meadow.",
        "Hive 7 is on a slope: its dancers allow for the climb.",
        "Swap the places of both hives for a week and film the dance floor.",
        ("length of a dance", "s", 2.1, 6.4),
        "The dance went with the place, not with the hive.",
    ),
    (
        "Sourdough from the cellar rises more evenly than from the kitchen.",
        "A steady 18 °C suits the wild yeast better than a warm day and a cold night.",
        "One starter, four jars, four temperature programmes; photograph every half hour.",
        ("volume", "ml", 320.0, 910.0),
        "Evenness comes with steadiness; the mean temperature only sets the speed.",
    ),
]


@dataclass(frozen=True)
class Agent:
    """An agent and its step of the method."""

    client_id: str
    name: str
    avatar: str
    listens: str
    works: str
    trait: str


AGENTS = [
    Agent("agent-iris", "Iris", "🔭", "share", "explore", "curious"),
    Agent("agent-theo", "Theo", "💡", "explore", "hypothesize", "bold"),
    Agent("agent-mara", "Mara", "📐", "hypothesize", "design", "careful"),
    Agent("agent-bo", "Bo", "🧪", "design", "execute", "patient"),
    Agent("agent-lin", "Lin", "📈", "execute", "interpret", "sceptical"),
    Agent("agent-noor", "Noor", "📣", "interpret", "share", "plain-spoken"),
]


#: Replies of an agent to the agent of the previous step, when it continues the work.
REPLIES = {
    "hypothesize": [
        "{study}: I may have an idea.",
        "Good eye. Give me a moment for {study}.",
        "{study} smells like a confounder.",
    ],
    "design": [
        "{study} can be tested. I draw up a plan.",
        "I would like a control group for {study}.",
        "On {study} now.",
    ],
    "execute": ["Equipment is free, {study} starts.", "{study}: calibrating first.", "Samples for {study} are ready."],
    "interpret": [
        "{study}: the spread is smaller than I feared.",
        "One outlier in {study}, it stays in.",
        "Fitting {study}.",
    ],
    "share": ["{study} deserves a figure.", "I write {study} up.", "May I quote {study} on the board?"],
    "explore": ["Thanks. On to the next question.", "Then I look somewhere else.", "That was {study}. What now?"],
}


def _pause() -> float:
    return random.uniform(FASTEST, SLOWEST)  # noqa: S311 - a rhythm, no secret


def _work(agent: Agent, study: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the messages of an agent about a study: texts with their payloads."""
    question, idea, plan, (name, unit, low, high), finding = STUDIES[study % len(STUDIES)]
    number = f"S-{100 + study}"
    common = {"study": number, "step": agent.works}
    match agent.works:
        case "explore":
            yield question, {**common, "kind": "question"}
        case "hypothesize":
            yield idea, {**common, "kind": "hypothesis", "confidence": round(random.uniform(0.4, 0.9), 2)}  # noqa: S311
        case "design":
            yield plan, {**common, "kind": "plan", "samples": random.randint(12, 60)}  # noqa: S311
        case "execute":
            for run in range(1, 6):
                value = round(random.uniform(low, high), 1)  # noqa: S311
                text = f"Run {run} of 5: {name} {value} {unit}".rstrip()
                yield text, {**common, "kind": "reading", "run": run, "measure": name, "value": value, "unit": unit}
        case "interpret":
            yield finding, {**common, "kind": "finding", "p_value": round(random.uniform(0.001, 0.04), 4)}  # noqa: S311
        case _:
            text = f"{number} is written up. We asked: {question} We thought: {idea} We did this: {plan} Now we know: {finding}"
            yield text, {**common, "kind": "report", "final": True}


async def _say(bus: arqonbus.Bus, agent: Agent, text: str, payload: dict[str, Any]) -> None:
    """Publish a message of an agent. A report is long, so it is a message that grows word by word, until somebody stops it."""
    address = f"{ROOM}:{agent.works}"
    if payload["kind"] != "report":
        await bus.publish(address, text, payload=payload)
        return
    async with bus.stream(address, payload=payload) as out:
        for word in text.split():
            if out.stop_requested:
                break
            await out.write(f"{word} ")
            await asyncio.sleep(_pause() / 10)


async def _agent(url: str, agent: Agent, first: int) -> None:
    """Run one agent: publish at once, then answer messages of the previous step."""
    personality = {"trait": agent.trait, "role": f"{agent.works} step of the demo"}
    async with arqonbus.connect(
        url,
        client_id=agent.client_id,
        client_type="ai-agent",
        screen_name=agent.name,
        avatar=agent.avatar,
        personality=personality,
        card={"name": agent.name, "skills": [agent.works]},
        room=f"{ROOM}:{agent.works}",
        wait=60.0,
    ) as bus:
        news = asyncio.Event()
        studies = itertools.count(first, len(AGENTS))
        latest = next(studies)
        tokens = 0

        async def listen() -> None:
            nonlocal latest
            async for message in bus.subscribe(f"{ROOM}:{agent.listens}"):
                study = str(message.payload.get("study", ""))
                if not study.startswith("S-") or message.payload.get("kind") == "reply":
                    continue
                if message.payload.get("run", 5) == 5:
                    reply = random.choice(REPLIES[agent.works]).format(study=study)  # noqa: S311
                    await bus.publish(message.address, reply, payload={"study": study, "kind": "reply"})
                if agent.works == "explore":
                    latest = next(studies)
                elif study[2:].isdigit():
                    latest = int(study[2:]) - 100
                news.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            while True:
                await bus.set_status("busy", task=f"{agent.works} S-{100 + latest}", tokens=tokens)
                for text, payload in _work(agent, latest):
                    tokens += 20 * len(text.split())
                    await _say(bus, agent, text, payload)
                    await asyncio.sleep(_pause() / (4 if agent.works == "execute" else 1))
                await bus.set_status("idle", task=f"listens to {agent.listens}", tokens=tokens)
                news.clear()
                # An agent that receives nothing for a while goes on by itself, so that the demo never stops.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), PATIENCE)
                await asyncio.sleep(_pause())


async def _worker(url: str, worker: Worker) -> None:
    """Run one worker of the work channel."""
    async with arqonbus.connect(
        url,
        client_id=worker.client_id,
        client_type="ai-agent",
        screen_name=worker.name,
        avatar=worker.avatar,
        card={"name": worker.name, "skills": worker.skills},
        room=SAMPLES,
        wait=60.0,
    ) as bus:
        await worker.run(bus)


async def _observer(url: str) -> None:
    """Run a human who brings samples, talks, asks a worker, and thanks an agent with a private message."""
    async with arqonbus.connect(
        url, client_id="ada", client_type="human", screen_name="Ada", avatar="🧑‍🔬", wait=60.0
    ) as bus:
        words = itertools.cycle(
            [
                "Morning, everybody.",
                "Which study is next?",
                "Nice work on the last one.",
                "Coffee is ready.",
                "Any blockers?",
            ]
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(bring(bus))
            while True:
                await bus.publish(f"{ROOM}:general", next(words))
                await asyncio.sleep(4 * _pause())
                await ask(bus, arqonbus.ArqonBusError)
                agent = random.choice(AGENTS)  # noqa: S311
                with contextlib.suppress(arqonbus.ServerError):
                    await bus.private(agent.client_id, f"Thank you, {agent.name}.")
                await asyncio.sleep(4 * _pause())


async def run(url: str) -> None:
    """Run all agents until standard input ends."""
    tasks = [asyncio.create_task(_agent(url, agent, first)) for first, agent in enumerate(AGENTS)]
    tasks += [asyncio.create_task(_worker(url, worker)) for worker in WORKERS]
    tasks.append(asyncio.create_task(_observer(url)))
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.read))
    done, _ = await asyncio.wait([*tasks, over], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done - {over}:
        if not task.cancelled() and task.exception() is not None:
            sys.stderr.write(f"A demo agent ended: {task.exception()}\n")


def main() -> None:
    """Run the agents. The only argument is the URL of the bus."""
    # The server ends before the agents, which would say that they try again.
    logging.getLogger("arqonbus").setLevel(logging.ERROR)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(sys.argv[1]))


if __name__ == "__main__":
    main()
