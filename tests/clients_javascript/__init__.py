"""Tests of clients/javascript: node against real servers; the browser side is tested through the console (tests/console)."""

from __future__ import annotations
