"""Cut a long text into pieces that the server takes."""

from __future__ import annotations

import json

#: The largest piece, in bytes of JSON, and the smallest one that is made when the message is near the server's limit.
LARGEST, SMALLEST = 32 * 1024, 256
#: Bytes that the server keeps free of its limit for the keys around the text.
ENVELOPE = 512


class Pieces:
    """The pieces of one message. Near the server's limit they get smaller, so that it keeps nearly all that fits."""

    def __init__(self) -> None:
        #: Bytes of JSON in the pieces so far.
        self._written = 0

    def cut(self, text: str, limit: int) -> tuple[str, str]:
        """Return the next piece of ``text``, and the rest. ``limit`` is the server's, in bytes of the message; 0: unknown."""
        left = limit - ENVELOPE - self._written
        most = max(SMALLEST, min(LARGEST, left // 2)) if left > 0 else LARGEST
        piece = text[:most]
        while (size := _size(piece)) > most:
            piece = piece[: len(piece) * most // size]
        self._written += size
        return piece, text[len(piece) :]


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2
