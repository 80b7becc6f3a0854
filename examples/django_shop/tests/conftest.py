"""Load the fixtures of the bus."""

from __future__ import annotations

pytest_plugins = ["bus.pytest_plugin"]
