"""Tests of the console in a real Chromium, against real servers."""

from __future__ import annotations
