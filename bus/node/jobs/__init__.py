"""Leased work, as the clients of one process see it: their claims, what they wait for, and the notices to members."""

from __future__ import annotations

from .work import Work

__all__ = ["Work"]
