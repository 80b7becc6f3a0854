"""AG-UI events: how a run is written as such events, and which text they carry.

Frameworks with events of their own (LangGraph, OpenAI Agents) are translated into these events. So any AG-UI client can show a
stream of parts, whatever framework wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: One part of a stream: a JSON object.
Part = dict[str, Any]

#: The types of events that carry text of the answer.
_TEXT = {"TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CHUNK"}


def text_of(part: Part) -> tuple[str, str] | None:
    """Return the message's id and the text of an AG-UI event, or None if it carries no text of the answer."""
    if part.get("type") not in _TEXT or not part.get("delta"):
        return None
    return str(part.get("messageId") or ""), str(part["delta"])


def failure_of(part: Part) -> str | None:
    """Return the text of the error if the event says that the run failed."""
    return str(part.get("message") or "The run failed.") if part.get("type") == "RUN_ERROR" else None


def is_event(part: Part) -> bool:
    """Say whether a dict looks like an AG-UI event: its type is one word in capital letters."""
    kind = part.get("type")
    return isinstance(kind, str) and kind.isupper() and kind.replace("_", "").isalpha()


class Run:
    """Writes one run as AG-UI events, in an order that AG-UI clients accept.

    The run starts with the first event. One message or tool call is open at a time, and the next one closes it.
    """

    def __init__(self, run: str, thread: str) -> None:
        self.ids = {"threadId": thread, "runId": run}
        self.started = False
        self.failed = False
        #: What has to be written to close the open message or tool call, and the key that says which one is open.
        self._closing: list[Part] = []
        self._open: tuple[str, str] | None = None

    def text(self, message_id: str, delta: str) -> Iterator[Part]:
        """Write text of the answer."""
        if delta:
            yield from self._opened(
                "text",
                message_id,
                [{"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}],
                [{"type": "TEXT_MESSAGE_END", "messageId": message_id}],
            )
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta}

    def reasoning(self, message_id: str, delta: str) -> Iterator[Part]:
        """Write text of the model's reasoning, which is no part of the answer."""
        if delta:
            start: list[Part] = [
                {"type": "REASONING_START", "messageId": message_id},
                {"type": "REASONING_MESSAGE_START", "messageId": message_id, "role": "reasoning"},
            ]
            end: list[Part] = [
                {"type": "REASONING_MESSAGE_END", "messageId": message_id},
                {"type": "REASONING_END", "messageId": message_id},
            ]
            yield from self._opened("reasoning", message_id, start, end)
            yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": message_id, "delta": delta}

    def call(self, call_id: str, name: str, arguments: str) -> Iterator[Part]:
        """Write the call of a tool, or more of its arguments: JSON text."""
        yield from self._opened(
            "call",
            call_id,
            [{"type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": name}],
            [{"type": "TOOL_CALL_END", "toolCallId": call_id}],
        )
        if arguments:
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": arguments}

    def result(self, call_id: str, content: str) -> Iterator[Part]:
        """Write what a tool returned."""
        yield from self._between()
        yield {"type": "TOOL_CALL_RESULT", "messageId": f"result-{call_id}", "toolCallId": call_id,
               "content": content, "role": "tool"}  # fmt: skip

    def step(self, name: str) -> Iterator[Part]:
        """Write that a step of the run is done."""
        yield from self._between()
        yield {"type": "STEP_STARTED", "stepName": name}
        yield {"type": "STEP_FINISHED", "stepName": name}

    def state(self, snapshot: Any) -> Iterator[Part]:
        """Write the whole state of the run."""
        yield from self._between()
        yield {"type": "STATE_SNAPSHOT", "snapshot": snapshot}

    def custom(self, name: str, value: Any) -> Iterator[Part]:
        """Write something that AG-UI has no event for."""
        yield from self._between()
        yield {"type": "CUSTOM", "name": name, "value": value}

    def finish(self) -> Iterator[Part]:
        """Write that the run is done, unless it never started or has failed."""
        if self.started and not self.failed:
            yield from self._between()
            yield {"type": "RUN_FINISHED", **self.ids}

    def fail(self, message: str) -> Iterator[Part]:
        """Write once that the run failed."""
        if self.failed:
            return
        if self.started:
            yield from self._between()
        self.failed = True
        yield {"type": "RUN_ERROR", "message": message}

    def _between(self) -> Iterator[Part]:
        """Start the run if it is new, and close what is open."""
        if not self.started:
            self.started = True
            yield {"type": "RUN_STARTED", **self.ids}
        yield from self._closing
        self._closing, self._open = [], None

    def _opened(self, kind: str, key: str, start: list[Part], end: list[Part]) -> Iterator[Part]:
        """Open a message or tool call, unless it is the open one."""
        if self._open != (kind, key):
            yield from self._between()
            self._closing, self._open = end, (kind, key)
            yield from start
