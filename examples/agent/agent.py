#!/usr/bin/env python
"""An agent that answers questions in a channel.

Start ``python agent.py --channel science:explore``, then write "@librarian what is …?" to that channel. The agent answers from
earlier messages of the channel. Put a call of your model into ``think``. The rest of the file makes the agent a good
participant: it answers each question once and in order, even after a crash.
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

#: Words that carry no topic.
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
    """Return the words of a text that carry a topic."""
    return set(re.findall(r"\w+", text.lower())) - FILLERS


async def think(question: str, said_before: list[Message]) -> str:
    """Answer a question. This version looks the answer up in earlier messages. Put your model here."""
    wanted = words(question)
    best = max(said_before, key=lambda message: len(wanted & words(message.text)), default=None)
    if best is None or not wanted & words(best.text):
        return "Nobody has said anything about that here."
    return f'{best.sender} said: "{best.text}"'


class Agent:
    """A client of the bus that answers questions in one channel."""

    def __init__(self, name: str, channel: str, memory: Path) -> None:
        self.name = name
        self.channel = channel
        #: The file with the agent's place in the channel. After a restart the agent continues there.
        self.memory = memory

    def place(self) -> arqonbus.Position | None:
        """Read the position after the last finished message. None, at the first start, means "new messages only"."""
        return arqonbus.Position(*json.loads(self.memory.read_text())) if self.memory.exists() else None

    def remember(self, place: arqonbus.Position | None) -> None:
        """Store the position. The file is complete at every moment."""
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
        """Answer one question."""
        page = await bus.history_page(self.channel, limit=500, before=question.seq)
        said_before = [message for message in page.messages if f"@{self.name}" not in message.text]
        text = await think(
            question.text.replace(f"@{self.name}", ""), [m for m in said_before if m.sender != self.name]
        )
        # The id makes a repeat harmless. An agent that dies after the answer, but before it stored its place, answers again.
        # The bus keeps only the first answer.
        await bus.publish(
            self.channel,
            text,
            payload={"question": question.seq, "for": question.sender},
            metadata={"in_reply_to": question.id},
            id=f"arq_answer-{question.id.removeprefix('arq_')}",
        )
        print(f"answered #{question.seq} of {question.sender}", flush=True)


async def main() -> None:
    """Read the command line and run the agent."""
    parser = argparse.ArgumentParser(description="An agent that answers in a channel of an ArqonBus.")
    parser.add_argument("--url", default=os.environ.get("ARQONBUS_URL", "ws://localhost:8765/"), help="URL of the bus")
    parser.add_argument("--name", default="librarian", help="client_id of the agent, which answers messages with @NAME")
    parser.add_argument("--channel", default="science:explore", help="channel to answer in, as room:channel")
    parser.add_argument(
        "--memory", type=Path, default=Path("agent.json"), help="file that stores the agent's place in the channel"
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
