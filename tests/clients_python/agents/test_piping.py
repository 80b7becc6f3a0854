"""What `pieces` makes of plain strings and dicts, of unknown events, of errors, and of a reader that stops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from arqonbus import agents
from tests.clients_python.agents.collecting import parts, text
from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure


async def given(*events: object) -> AsyncIterator[object]:
    for event in events:
        yield event


async def test_strings_are_deltas_of_a_text_and_a_message_among_parts() -> None:
    assert await text(given("Hel", "", "lo")) == ["Hel", "lo"]
    assert await parts(given("Hel", "", "lo")) == [
        {"type": "RUN_STARTED", "threadId": "chat:42", "runId": "arq_a1"},
        {"type": "TEXT_MESSAGE_START", "messageId": "text", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "text", "delta": "Hel"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "text", "delta": "lo"},
        {"type": "TEXT_MESSAGE_END", "messageId": "text"},
        {"type": "RUN_FINISHED", "threadId": "chat:42", "runId": "arq_a1"},
    ]


async def test_dicts_are_parts_as_they_are_and_text_if_they_are_known_events() -> None:
    assert await parts(given({"any": 1}, {"type": "x"})) == [{"any": 1}, {"type": "x"}]
    assert await text(given({"type": "TEXT_MESSAGE_CHUNK", "delta": "a"}, {"type": "RUN_FINISHED"})) == ["a"]
    assert await text(given({"type": "start"}, {"type": "text-delta", "id": "1", "delta": "b"})) == ["b"]


@pytest.mark.parametrize("event", [{"delta": "a"}, 7, b"a", ("a", 1)], ids=str)
async def test_an_unknown_event_is_an_error_and_no_hole(event: object) -> None:
    with pytest.raises(TypeError, match="A stream of mode text takes strings and the events of"):
        await text(given("a", event))
    if not isinstance(event, dict):
        with pytest.raises(TypeError, match="A stream of mode parts takes dicts"):
            await parts(given(event))


async def test_the_frameworks_iterator_is_closed_with_the_reader() -> None:
    closed: list[bool] = []

    async def run() -> AsyncIterator[str]:
        try:
            while True:
                yield "more "
        finally:
            closed.append(True)

    reading: Any = agents.pieces(run(), mode="text", run="arq_a1", thread="chat:42")
    async for _ in reading:
        break
    await reading.aclose()
    assert closed == [True]


def test_without_an_event_loop() -> None:
    assert list(agents.pieces_sync(["Hel", "lo"], mode="text", run="arq_a1", thread="chat:42")) == ["Hel", "lo"]

    def run() -> Any:
        yield {"type": "text-delta", "id": "1", "delta": "a"}
        raise OSError("away")

    reading = agents.pieces_sync(run(), mode="parts", run="arq_a1", thread="chat:42")
    assert next(reading) == {"type": "text-delta", "id": "1", "delta": "a"}
    assert next(reading) == {"type": "error", "errorText": "The run failed."}
    with pytest.raises(OSError, match="away"):
        next(reading)


def test_no_framework_is_imported() -> None:
    """Who has none of them pays for none of them."""
    program = (
        "import sys, arqonbus.agents as a\n"
        "list(a.pieces_sync(['a', {'type': 'start'}], mode='parts', run='r', thread='t'))\n"
        "print([n for n in ('ag_ui', 'pydantic_ai', 'langgraph', 'langchain_core', 'agents', 'openai') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT_ROOT / "clients" / "python" / "src",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[]\n", done.stderr
