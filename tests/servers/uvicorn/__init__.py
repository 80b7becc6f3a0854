"""Tests of the adapter of uvicorn."""

from __future__ import annotations
