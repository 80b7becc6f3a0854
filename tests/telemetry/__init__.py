"""Telemetry and activity (contract §7)."""

from __future__ import annotations
