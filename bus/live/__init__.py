"""Live pages: a page and the stream of its changes meet without a lost one (docs/live-pages.md)."""

from __future__ import annotations

from .positions import Position, position

__all__ = ["Position", "position"]
