"""The command line ``arqonbus`` (extra ``[cli]``)."""

from __future__ import annotations

from .app import run

__all__ = ["run"]
