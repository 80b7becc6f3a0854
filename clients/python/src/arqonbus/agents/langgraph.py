"""What LangGraph's ``astream`` gives out, with one mode or several, with and without subgraphs, in both versions.

The modes ``messages``, ``updates``, ``values`` and ``custom`` are translated. Other modes (``tasks``, ``checkpoints``, ``debug``)
say nothing to a reader of the answer and are left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from typing import Any

from . import closing
from .agui import Part, Run
from .plain import packages_of, plain, text_of

_MODES = {"messages", "updates", "values", "custom", "tasks", "checkpoints", "debug"}
_INTERRUPT = "__interrupt__"


def _is_message(value: object) -> bool:
    return "langchain_core" in packages_of(value) and hasattr(value, "content")


def _messages_in(value: object) -> list[Any]:
    """Return the messages in one value of the state: a message or a list of messages."""
    bits = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    return [bit for bit in bits if _is_message(bit)]


def _has_messages(state: object) -> bool:
    return isinstance(state, Mapping) and any(_messages_in(value) for value in state.values())


def _split(event: Any) -> tuple[tuple[str, ...], str, Any] | None:
    """Return the namespace, the mode and the data of an event, or None if LangGraph did not write it."""
    if isinstance(event, Mapping):
        if event.get("type") in _MODES and {"ns", "data"} <= event.keys():  # version 2
            return tuple(event["ns"]), event["type"], event["data"]
        if _has_messages(event):
            return (), "values", event
        steps = [update for update in event.values() if update is not None]
        if _INTERRUPT in event or any(_has_messages(update) for update in steps):
            return (), "updates", event
        return None
    if not isinstance(event, tuple) or not event:
        return None
    if len(event) == 2 and _is_message(event[0]):
        return (), "messages", event
    if len(event) == 2 and event[0] in _MODES:
        return (), event[0], event[1]
    if isinstance(event[0], tuple) and len(event) == 3 and event[1] in _MODES:
        return event[0], event[1], event[2]
    if isinstance(event[0], tuple) and len(event) == 2 and (inner := _split(event[1])):
        return event[0], inner[1], inner[2]
    return None


class LangGraph:
    """One run of a graph."""

    def __init__(self, run: Run) -> None:
        self.run = run
        #: The ids of the messages that are written, or that were there before the run.
        self._known: set[str] = set()
        #: The last state of each graph. The first one is what the run began with.
        self._states: dict[tuple[str, ...], Any] = {}
        #: The id of the call that a message's bit of arguments belongs to, by message and index.
        self._calls: dict[tuple[str, Any], tuple[str, str]] = {}

    @staticmethod
    def knows(event: object) -> bool:
        """Say whether an event has a form that only LangGraph gives out."""
        return _split(event) is not None

    @staticmethod
    async def close(events: AsyncIterable[object]) -> None:
        """Close the iterator, which cancels the run."""
        await closing.close(events)

    def parts(self, event: Any) -> Iterator[Part]:
        """Translate one event."""
        found = _split(event)
        assert found is not None
        namespace, mode, data = found
        if mode == "messages":
            yield from self._message(data[0], in_bits=True)
        elif mode == "updates":
            yield from self._updates(data)
        elif mode == "values":
            yield from self._values(namespace, data)
        elif mode == "custom":
            yield from self.run.custom("custom", plain(data))

    def _message(self, message: Any, *, in_bits: bool = False) -> Iterator[Part]:
        """Write a message, or a bit of it. Messages of people and of the system are no part of the answer."""
        is_bit = type(message).__name__.endswith("Chunk")
        key = str(message.id or ("message" if is_bit else id(message)))
        if not (in_bits and is_bit) and key in self._known:
            return
        self._known.add(key)
        if message.type == "tool":
            yield from self.run.result(str(message.tool_call_id), text_of(message.content))
        elif message.type in ("ai", "AIMessageChunk"):
            yield from self.run.text(key, _text(message.content))
            yield from self._tool_calls(key, message, is_bit=is_bit)

    def _tool_calls(self, key: str, message: Any, *, is_bit: bool) -> Iterator[Part]:
        """Write the calls of tools in a message. A bit has bits of the arguments."""
        if not is_bit:
            for call in message.tool_calls:
                yield from self.run.call(str(call["id"]), call["name"], text_of(call["args"]))
            return
        for bit in message.tool_call_chunks:
            place = (key, bit["index"])
            if bit["id"]:
                self._calls[place] = (bit["id"], bit["name"] or "")
            if place in self._calls:
                yield from self.run.call(*self._calls[place], bit["args"] or "")

    def _updates(self, data: Mapping[str, Any]) -> Iterator[Part]:
        """Write what each node has added to the state."""
        for node, update in data.items():
            if node == _INTERRUPT:
                yield from self.run.custom("interrupt", plain(update))
                continue
            rest = {}
            for name, value in update.items() if isinstance(update, Mapping) else ():
                if messages := _messages_in(value):
                    for message in messages:
                        yield from self._message(message)
                else:
                    rest[name] = plain(value)
            yield from self.run.step(node)
            if rest:
                yield from self.run.custom("updates", {node: rest})

    def _values(self, namespace: tuple[str, ...], data: Any) -> Iterator[Part]:
        """Write the new messages of a state, and the state without its messages, if it is another one."""
        state = data if isinstance(data, Mapping) else vars(data) if hasattr(data, "__dict__") else {"value": data}
        messages = [message for value in state.values() for message in _messages_in(value)]
        if namespace not in self._states:
            self._known.update(str(message.id or id(message)) for message in messages)
        for message in messages:
            yield from self._message(message)
        rest = {name: plain(value) for name, value in state.items() if not _messages_in(value)}
        if rest != self._states.get(namespace, {}) and not namespace:
            yield from self.run.state(rest)
        self._states[namespace] = rest


def _text(content: Any) -> str:
    """Return the text of a message: a string, or a list of strings and blocks."""
    if isinstance(content, str):
        return content
    texts = (bit if isinstance(bit, str) else bit.get("text") or "" for bit in content if isinstance(bit, str | Mapping)
             and (isinstance(bit, str) or bit.get("type") == "text"))  # fmt: skip
    return "".join(texts)
