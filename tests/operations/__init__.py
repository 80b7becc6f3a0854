"""Logs, metrics and the pages of operations."""

from __future__ import annotations
