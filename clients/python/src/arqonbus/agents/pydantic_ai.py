"""Events of Pydantic AI's adapters, for AG-UI and for the Vercel AI SDK.

They are events of the receiver's protocol already, so a stream of parts gets them as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator
from typing import Any

from . import closing
from .agui import Part, Run
from .plain import packages_of


class PydanticAI:
    """One run of Pydantic AI, or of anything else that gives out events of the package ``ag_ui``."""

    def __init__(self, run: Run) -> None:
        pass

    @staticmethod
    def knows(event: object) -> bool:
        """Say whether an event is one of AG-UI, or one of Pydantic AI's for the Vercel AI SDK."""
        if "ag_ui" in packages_of(event):
            return True
        return any(kind.__module__.startswith("pydantic_ai.ui.vercel_ai") for kind in type(event).__mro__)

    @staticmethod
    async def close(events: AsyncIterable[object]) -> None:
        """Close the iterator, which cancels the run."""
        await closing.close(events)

    def parts(self, event: Any) -> Iterator[Part]:
        """Give the event as JSON, under the names of its protocol."""
        part: Part = event.model_dump(mode="json", by_alias=True, exclude_none=True)
        if (
            part.get("type") != "done"
        ):  # This event stands for the bytes `[DONE]`, which the server of the stream writes.
            yield part
