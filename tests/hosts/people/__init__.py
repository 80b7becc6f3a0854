"""Users of other kinds than Django's own."""

from __future__ import annotations
