"""System checks: ways to misconfigure the bus, in plain words."""

from __future__ import annotations


def register_checks() -> None:
    """Connect the checks; called when the app is ready."""
