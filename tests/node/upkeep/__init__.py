"""Tests of what a process does again and again, and at its end."""

from __future__ import annotations
