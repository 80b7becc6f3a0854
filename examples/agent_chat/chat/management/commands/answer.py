"""The command ``answer``: the worker that answers the questions of the chat."""

from __future__ import annotations

import asyncio
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

import arqonbus
from arqonbus.agents import RunFailed
from arqonbus.errors import StreamEnded
from chat.agent import run
from chat.place import Place
from chat.views import CHANNEL

#: How many earlier messages the model gets.
MEMORY = 20


class Command(BaseCommand):
    """Answer the questions of the chat, one after the other."""

    help = "Answers the questions of the chat. Start it beside the server. Both may be killed and started again."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the address of the bus."""
        parser.add_argument("--url", default="ws://localhost:8000/bus/", help="URL of the bus")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until Ctrl+C."""
        try:
            asyncio.run(self.work(options["url"]))
        except KeyboardInterrupt:
            pass

    async def work(self, url: str) -> None:
        """Answer every question after the stored place."""
        place = Place(settings.STATE_DIR / "answer.place")
        identity = settings.STATE_DIR / "answer.identity"
        async with (
            arqonbus.connect(url, client_id="assistant", client_type="ai-agent", identity=identity, wait=60) as bus,
            bus.subscribe(CHANNEL, since=place.read()) as messages,
        ):
            place.write(messages.position)
            self.stdout.write(f"listening in {CHANNEL}")
            self.stdout.flush()
            async for message in messages:
                if message.payload.get("role") == "user":
                    await self.answered(bus, message)
                place.write(messages.position)

    async def answered(self, bus: arqonbus.Bus, question: arqonbus.Message) -> None:
        """Answer a question, however long the server is away. The name of the run makes another attempt safe."""
        while True:
            try:
                await self.answer(bus, question)
            except TimeoutError:
                self.stderr.write(f"question {question.seq}: the server does not answer; trying again")
            else:
                return

    async def answer(self, bus: arqonbus.Bus, question: arqonbus.Message) -> None:
        """Write one answer into a stream of its own.

        The name of the run comes from the question. So a worker that was killed in the middle takes its own stream over, throws
        the half answer away, and begins again. A question that has its answer is left alone.
        """
        page = await bus.history_page(CHANNEL, limit=MEMORY, before=question.seq)
        name = f"answer-{question.seq}"
        try:
            async with bus.stream(CHANNEL, run=name, keep=False, payload={"question": question.id}) as out:
                await out.pipe(run(name, CHANNEL, [*page.messages, question]).run_stream())
        except StreamEnded:
            pass  # It has its answer, or the server ended the stream while this worker was away.
        except RunFailed as problem:
            self.stderr.write(f"question {question.seq}: {problem}")
