"""The command ``draft``: the agent of the desk."""

from __future__ import annotations

import asyncio
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

import arqonbus
from desk.agent import settle
from desk.places import QUESTIONS

#: So many questions wait for people at once.
AT_ONCE = 20


class Command(BaseCommand):
    """Draft answers to the questions of customers, and ask people about them."""

    help = "Drafts answers to questions of customers. Start it beside the server. Both may be killed and started again."

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
        """Work on the questions. The identity makes the next process the same agent, which gets its jobs and decisions back."""
        identity = settings.STATE_DIR / "drafter.identity"
        async with arqonbus.connect(
            url, client_id="drafter", client_type="ai-agent", identity=identity, wait=60
        ) as bus:
            self.stdout.write(f"drafting for {QUESTIONS}")
            self.stdout.flush()
            await bus.work(QUESTIONS, concurrency=AT_ONCE).run(lambda job: settle(bus, job))
