"""The end of a run that nobody wants any more."""

from __future__ import annotations

from collections.abc import AsyncIterable


async def close(events: AsyncIterable[object]) -> None:
    """Close an iterator that can be closed. A generator then leaves its `with` and `finally` blocks."""
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        await aclose()
