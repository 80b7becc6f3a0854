"""The frameworks whose events `pieces` takes. A new one is a class in a module of its own and a line here."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator
from typing import Any, Protocol

from .agui import Part, Run
from .langgraph import LangGraph
from .openai_agents import OpenAIAgents
from .pydantic_ai import PydanticAI


class Framework(Protocol):
    """Translates the events of one run."""

    def __init__(self, run: Run) -> None: ...

    @staticmethod
    def knows(event: object) -> bool:
        """Say whether an event is one of this framework. The framework need not be installed."""
        ...

    def parts(self, event: Any) -> Iterator[Part]:
        """Translate one event into events of AG-UI or of the Vercel AI SDK."""
        ...

    @staticmethod
    async def close(events: AsyncIterable[object]) -> None:
        """End the run that an iterator belongs to. It may be over already."""
        ...


#: In the order in which they are asked. Those that look at the type of the event alone come first.
FRAMEWORKS: tuple[type[Framework], ...] = (PydanticAI, OpenAIAgents, LangGraph)
