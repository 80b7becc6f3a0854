"""Tests of the benchmark's own code; what it measures is nobody's test."""

from __future__ import annotations
