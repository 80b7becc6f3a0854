"""The documentation: it builds, and its examples run."""

from __future__ import annotations
