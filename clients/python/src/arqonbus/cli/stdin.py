"""Read standard input line by line, without blocking the event loop."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator

from ..daemon import in_daemon


async def lines() -> AsyncIterator[str]:
    """Yield the lines without their ends. Raises ``ValueError`` if a line is not UTF-8."""
    # This is a separate file object. The interpreter would abort if a thread still reads `sys.stdin` at its end. It is never
    # closed, since closing would wait for that thread too.
    source = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    number = 0
    while line := await in_daemon(source.readline, "arqonbus-stdin"):
        number += 1
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise ValueError(f"Line {number} of standard input is not UTF-8.") from None
