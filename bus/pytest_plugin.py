"""The fixtures of ``bus.testing``: ``pytest_plugins = ["bus.pytest_plugin"]`` in your conftest.py.

``live_bus``          the bus inside an async test (pytest-asyncio or anyio)
``assert_published``  :func:`bus.testing.assert_published`
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from .testing import LiveBus, Publications


@pytest_asyncio.fixture
async def live_bus(transactional_db: None) -> AsyncIterator[LiveBus]:
    """Run the bus in the test's event loop. It requests a transactional database."""
    from .testing import live_bus as make

    async with make() as bus:
        yield bus


@pytest.fixture
def assert_published(db: None) -> Callable[..., AbstractContextManager[Publications]]:
    """Return :func:`bus.testing.assert_published`."""
    from .testing import assert_published as check

    return check
