"""The command line of the bus (extra ``[cli]``)."""

from __future__ import annotations

from .app import run

__all__ = ["run"]
