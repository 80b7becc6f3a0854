"""Events of OpenAI Agents: ``Runner.run_streamed(…).stream_events()``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterator
from typing import Any

from . import closing
from .agui import Part, Run
from .plain import text_of

#: The classes of the package ``agents`` that ``stream_events`` gives out, by the values of their ``type``.
_TYPES = {"raw_response_event", "run_item_stream_event", "agent_updated_stream_event"}
_TEXT = {"response.output_text.delta", "response.refusal.delta"}
_REASONING = {"response.reasoning_summary_text.delta", "response.reasoning_text.delta"}


class OpenAIAgents:
    """One run of OpenAI Agents."""

    def __init__(self, run: Run) -> None:
        self.run = run
        #: The texts that came in bits. Their whole text, which comes later, is left out.
        self._in_bits: set[str] = set()
        #: The id and the name of each tool call, by the id of its item, and the ids of all calls.
        self._calls: dict[str, tuple[str, str]] = {}
        self._called: set[str] = set()

    @staticmethod
    def knows(event: object) -> bool:
        """Say whether an event is one of OpenAI Agents."""
        return getattr(event, "type", None) in _TYPES and type(event).__module__.startswith("agents.")

    @staticmethod
    async def close(events: AsyncIterable[object]) -> None:
        """Cancel the run.

        A closed iterator of OpenAI Agents waits for the end of the run. It cancels the run only if it is cancelled itself
        while it waits for an event. So the events that are there already are taken, and thrown away.
        """
        iterator = aiter(events)
        more = True
        while more:
            waiting = asyncio.ensure_future(anext(iterator, None))
            await asyncio.wait({waiting}, timeout=0)
            more = (
                waiting.done()
                and not waiting.cancelled()
                and waiting.exception() is None
                and waiting.result() is not None
            )
            waiting.cancel()
            await asyncio.wait({waiting})
        await closing.close(events)

    def parts(self, event: Any) -> Iterator[Part]:
        """Translate one event."""
        if event.type == "raw_response_event":
            yield from self._of_the_model(event.data)
        elif event.type == "run_item_stream_event":
            yield from self._of_the_run(event.name, event.item)
        else:
            yield from self.run.step(str(event.new_agent.name))

    def _of_the_model(self, data: Any) -> Iterator[Part]:
        """Translate what the model streams."""
        kind = getattr(data, "type", "")
        if kind in _TEXT:
            self._in_bits.add(data.item_id)
            yield from self.run.text(data.item_id, data.delta)
        elif kind in _REASONING:
            yield from self.run.reasoning(data.item_id, data.delta)
        elif kind == "response.output_item.added" and data.item.type == "function_call":
            call = self._calls[data.item.id or data.item.call_id] = (data.item.call_id, data.item.name)
            self._called.add(call[0])
            yield from self.run.call(*call, "")
        elif kind == "response.function_call_arguments.delta" and data.item_id in self._calls:
            yield from self.run.call(*self._calls[data.item_id], data.delta)
        elif kind in ("response.failed", "error"):
            error = getattr(getattr(data, "response", data), "error", None) or data
            yield from self.run.fail(str(getattr(error, "message", None) or "The model failed."))

    def _of_the_run(self, name: str, item: Any) -> Iterator[Part]:
        """Translate what the run has made of the model's answer."""
        raw = item.raw_item
        if name == "message_output_created" and raw.id not in self._in_bits:
            texts = (getattr(bit, "text", None) or getattr(bit, "refusal", None) or "" for bit in raw.content)
            yield from self.run.text(raw.id, "".join(texts))
        elif (
            name == "tool_called" and getattr(raw, "type", None) == "function_call" and raw.call_id not in self._called
        ):
            yield from self.run.call(raw.call_id, raw.name, raw.arguments)
        elif name == "tool_output":
            call_id = raw.get("call_id") if isinstance(raw, dict) else getattr(raw, "call_id", None)
            yield from self.run.result(str(call_id), text_of(item.output))
