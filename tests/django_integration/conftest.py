"""The fixtures that users get."""

from __future__ import annotations

from bus.pytest_plugin import assert_published, live_bus

__all__ = ["assert_published", "live_bus"]
