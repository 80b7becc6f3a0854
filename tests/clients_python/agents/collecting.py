"""Run `pieces` to the end."""

from __future__ import annotations

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


def types(parts: list[dict[str, Any]]) -> list[str]:
    """The types of events, each row of equal ones once."""
    kinds = [part["type"] for part in parts]
    return [kind for place, kind in enumerate(kinds) if not place or kinds[place - 1] != kind]
