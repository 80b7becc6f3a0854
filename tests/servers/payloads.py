"""Texts of sizes around the borders of the three forms of a frame's header."""

from __future__ import annotations

PAYLOADS = [
    b"{}",
    b'{"a":"\xc3\xa4\xf0\x9f\x8e\x88"}',
    b"x" * 125,
    b"y" * 126,
    b"z" * 65_535,
    b"w" * 65_536,
    b"v" * 300_000,
]
