"""Cut a long text into pieces of a streamed message."""

from __future__ import annotations

import msgspec

#: The largest piece, in bytes of JSON, and the smallest one that is made when the message is near its limit.
LARGEST, SMALLEST = 32 * 1024, 256


def cut(text: str, left: int) -> tuple[str, str]:
    """The first piece of ``text``, and the rest. ``left`` are the bytes until the limit of the whole message.

    Near the limit the pieces get smaller, so that the bus keeps nearly all that fits.
    """
    most = max(SMALLEST, min(LARGEST, left // 2)) if left > 0 else LARGEST
    piece = text[:most]
    while (size := json_size(piece)) > most:
        piece = piece[: len(piece) * most // size]
    return piece, text[len(piece) :]


def json_size(text: str) -> int:
    """The bytes of a text in JSON, without its quotes. Half a character counts as one that UTF-8 can encode."""
    return len(msgspec.json.encode(text.encode("utf-8", "replace").decode())) - 2
