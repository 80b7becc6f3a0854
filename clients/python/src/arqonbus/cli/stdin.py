"""Read standard input without blocking the event loop."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from ..daemon import in_daemon

#: The largest number of bytes of one read.
_CHUNK = 65536


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


async def texts() -> AsyncIterator[str]:
    """Yield the text as it arrives, in pieces of any size. Raises ``ValueError`` if it is not UTF-8."""
    source = os.dup(sys.stdin.fileno())
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while data := await in_daemon(lambda: os.read(source, _CHUNK), "arqonbus-stdin"):
            if text := decoder.decode(data):
                yield text
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise ValueError("Standard input is not UTF-8.") from None


async def objects() -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON object of each line. Raises ``ValueError`` for a line that is none."""
    number = 0
    async for line in lines():
        number += 1
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"Line {number} of standard input is not a JSON object.")
        yield found
