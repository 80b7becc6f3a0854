"""The test suite. `make test` runs it; docs/contributing.md tells its rules."""

from __future__ import annotations
