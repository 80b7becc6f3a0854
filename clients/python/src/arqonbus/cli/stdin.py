"""Standard input, line by line, beside an event loop that must not wait for it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator

from ..daemon import in_daemon


async def lines() -> AsyncIterator[str]:
    """Its lines without their ends. Raises ``ValueError`` for one that is not UTF-8."""
    # A file object of its own: a thread that still reads `sys.stdin` when the interpreter ends makes that abort. It is never
    # closed, which would wait for that thread too.
    source = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    number = 0
    while line := await in_daemon(source.readline, "arqonbus-stdin"):
        number += 1
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise ValueError(f"line {number} of standard input is not UTF-8") from None
