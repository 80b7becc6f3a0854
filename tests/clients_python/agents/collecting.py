"""Run `pieces` to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any

from arqonbus import agents


async def text(events: AsyncIterable[object]) -> list[str]:
    """The deltas of a stream of text."""
    found = [piece async for piece in agents.pieces(events, mode="text", run="arq_a1", thread="chat:42")]
    assert all(isinstance(piece, str) for piece in found)
    return [str(piece) for piece in found]


async def parts(events: AsyncIterable[object]) -> list[dict[str, Any]]:
    """The parts of a stream of parts."""
    found = [piece async for piece in agents.pieces(events, mode="parts", run="arq_a1", thread="chat:42")]
    return [piece for piece in found if isinstance(piece, dict)]


async def until_it_fails(
    events: AsyncIterable[object], expected: type[Exception]
) -> tuple[list[dict[str, Any]], Exception]:
    """The parts that came before an error, and the error."""
    found: list[dict[str, Any]] = []
    try:
        async for piece in agents.pieces(events, mode="parts", run="arq_a1", thread="chat:42"):
            assert isinstance(piece, dict)
            found.append(piece)
    except expected as error:
        return found, error
    raise AssertionError(f"No {expected.__name__} after {found}")


class Slow:
    """Something that a run does for ever, until it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def do(self) -> str:
        """Never return."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return "done"


async def expect_that_a_reader_ends_the_run(events: AsyncIterable[object], slow: Slow) -> None:
    """A reader that stops at a part, and not while it waits for one, ends what the run does."""
    reading: Any = agents.pieces(events, mode="parts", run="arq_a1", thread="chat:42")
    await anext(reading)
    async with asyncio.timeout(30):
        await slow.begun.wait()
        await reading.aclose()
        await slow.ended.wait()


async def expect_that_a_cancelled_reader_ends_the_run(events: AsyncIterable[object], slow: Slow) -> None:
    """A reader that is cancelled while it waits for a part ends what the run does."""
    task = asyncio.ensure_future(parts(events))
    async with asyncio.timeout(30):
        await slow.begun.wait()
        task.cancel()
        await asyncio.wait({task})
        await slow.ended.wait()
    assert task.cancelled()


def types(parts: list[dict[str, Any]]) -> list[str]:
    """The types of events, each row of equal ones once."""
    kinds = [part["type"] for part in parts]
    return [kind for place, kind in enumerate(kinds) if not place or kinds[place - 1] != kind]
