"""What the tests of several servers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest


@pytest.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Awaitable[None]]:
    """Puts the running loop's clock forward by so many seconds, and lets what is due by then happen."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)

    async def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds
        for _ in range(3):
            await asyncio.sleep(0)

    return forward
