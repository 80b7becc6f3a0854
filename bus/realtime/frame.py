"""WebSocket frames as bytes (RFC 6455, section 5.2). A frame is built once and written to many sockets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: The largest frame that a server's parser takes, bytes. The bus's own limit (``frame_bytes``) lies below.
MAX_FRAME = 1024 * 1024


class LoggedFrame(NamedTuple):
    """A message of a log: its ``seq``, and the JSON text that clients get."""

    seq: int
    frame: bytes


def text_frame(payload: bytes) -> bytes:
    """A server's frame: unmasked, final, with ``payload`` as its text (UTF-8)."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """Remove a client's four-byte ``mask`` from ``payload``, by one exclusive-or of two long numbers."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def masked_frame(payload: bytes, mask: bytes, *, first: int = 0x81) -> bytes:
    """A client's frame, for self-tests and tests; ``first`` is the byte with the final flag and the opcode."""
    size = len(payload)
    if size < 126:
        head = b"%c%c" % (first, 0x80 | size)
    elif size < 65536:
        head = b"%c\xfe%b" % (first, size.to_bytes(2, "big"))
    else:
        head = b"%c\xff%b" % (first, size.to_bytes(8, "big"))
    return head + mask + unmasked(payload, mask)


class Batch:
    """The frames of one loop turn for the same connections: JSON texts, and the bytes of all of them, made on first use."""

    __slots__ = ("_wire", "payloads")

    def __init__(self, payloads: Sequence[bytes], wire: bytes | None = None) -> None:
        self.payloads = payloads
        self._wire = wire

    @property
    def wire(self) -> bytes:
        """All frames as bytes for the socket."""
        if self._wire is None:
            payloads = self.payloads
            self._wire = text_frame(payloads[0]) if len(payloads) == 1 else b"".join(map(text_frame, payloads))
        return self._wire

    def prepared(self) -> Batch:
        """The batch itself, with its bytes made: for a batch that several writers put behind what they keep."""
        self._wire = self.wire
        return self
