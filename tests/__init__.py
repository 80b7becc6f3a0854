"""The test suite. `make test` runs it; docs/testing.md tells how it is laid out."""

from __future__ import annotations
