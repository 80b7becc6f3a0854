"""The bus inside of the test's own process, where a test needs its parts."""

from __future__ import annotations

from bus.pytest_plugin import live_bus

__all__ = ["live_bus"]
