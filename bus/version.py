"""The server's version."""

from __future__ import annotations

VERSION = "1.0.0"
PROTOCOL = "1.0"
