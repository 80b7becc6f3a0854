"""Tests of what a process does with its clients."""

from __future__ import annotations
