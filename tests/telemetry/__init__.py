"""Tests of telemetry and activity."""

from __future__ import annotations
