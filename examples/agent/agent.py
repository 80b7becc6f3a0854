#!/usr/bin/env python
"""An agent that answers in a channel: ``python agent.py --channel science:explore``, then say "@librarian what is …?" there.

It answers from what was said in the channel before. ``think`` is the place for a call of your model; everything around it is
about being a good participant: each question is answered once, in order, whatever crashes in between.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
from pathlib import Path

import arqonbus
from arqonbus import Message

#: Words that say nothing about what a question is about.
FILLERS = {
    "a",
    "about",
    "and",
    "are",
    "did",
    "do",
    "for",
    "how",
    "in",
    "is",
    "it",
    "of",
    "on",
    "the",
    "to",
    "was",
    "what",
    "where",
}


def words(text: str) -> set[str]:
    """The words of a text that matter."""
    return set(re.findall(r"\w+", text.lower())) - FILLERS


async def think(question: str, said_before: list[Message]) -> str:
    """The answer to a question. This one looks it up in what was said before; put your model here."""
    wanted = words(question)
    best = max(said_before, key=lambda message: len(wanted & words(message.text)), default=None)
    if best is None or not wanted & words(best.text):
        return "Nobody has said anything about that here."
    return f'{best.sender} said: "{best.text}"'


class Agent:
    """The agent's life on the bus."""

    def __init__(self, name: str, channel: str, memory: Path) -> None:
        self.name = name
        self.channel = channel
        #: Where it keeps its place in the channel, so that it goes on there after a restart of its own.
        self.memory = memory

    def place(self) -> arqonbus.Position | None:
        """Behind the last message that was dealt with; None at its first start: then it begins with what comes."""
        return arqonbus.Position(*json.loads(self.memory.read_text())) if self.memory.exists() else None

    def remember(self, place: arqonbus.Position | None) -> None:
        """Note the place, so that the file is whole at every moment."""
        draft = self.memory.with_suffix(".new")
        draft.write_text(json.dumps(place))
        draft.replace(self.memory)

    async def run(self, bus: arqonbus.Bus) -> None:
        """Answer until the connection ends for good."""
        async with bus.subscribe(self.channel, since=self.place()) as messages:
            self.remember(messages.position)
            print(f"{self.name} listens in {self.channel}", flush=True)
            async for message in messages:
                if f"@{self.name}" in message.text:
                    await self.answer(bus, message)
                self.remember(messages.position)

    async def answer(self, bus: arqonbus.Bus, question: Message) -> None:
        """Say one answer."""
        page = await bus.history_page(self.channel, limit=500, before=question.seq)
        said_before = [message for message in page.messages if f"@{self.name}" not in message.text]
        text = await think(
            question.text.replace(f"@{self.name}", ""), [m for m in said_before if m.sender != self.name]
        )
        # The id makes a repeat harmless: an agent that dies between the answer and its note of it answers again, and the bus
        # keeps the first answer.
        await bus.publish(
            self.channel,
            text,
            payload={"question": question.seq, "for": question.sender},
            metadata={"in_reply_to": question.id},
            id=f"arq_answer-{question.id.removeprefix('arq_')}",
        )
        print(f"answered #{question.seq} of {question.sender}", flush=True)


async def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="An agent that answers in a channel of an ArqonBus.")
    parser.add_argument("--url", default=os.environ.get("ARQONBUS_URL", "ws://localhost:8765/"), help="the bus")
    parser.add_argument("--name", default="librarian", help="its client_id; it answers who writes @NAME")
    parser.add_argument("--channel", default="science:explore", help="where it listens, as room:channel")
    parser.add_argument(
        "--memory", type=Path, default=Path("agent.json"), help="file that keeps its place in the channel"
    )
    chosen = parser.parse_args()
    agent = Agent(chosen.name, chosen.channel, chosen.memory)
    async with arqonbus.connect(
        chosen.url, client_id=chosen.name, client_type="ai-agent", token=os.environ.get("ARQONBUS_TOKEN"), wait=30
    ) as bus:
        await agent.run(bus)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except arqonbus.ArqonBusError as problem:
        raise SystemExit(f"agent: {problem}") from None
