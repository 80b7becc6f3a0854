"""Tests of the adapter of daphne."""

from __future__ import annotations
