"""WebSocket frames as bytes (RFC 6455 §5.2): built once and written to many sockets; taken apart where they are usual ones."""

from __future__ import annotations

from collections.abc import Sequence

#: What a server's parser takes from one frame at most, bytes; the bus's own limit lies below (contract §1).
MAX_FRAME = 1024 * 1024

#: A client's opening request, for self-tests.
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def text_frame(payload: bytes) -> bytes:
    """One unmasked, final text frame around ``payload``, which is UTF-8."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """``payload`` with the client's four-byte ``mask`` taken off: one exclusive-or of two long numbers."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def masked_frame(payload: bytes, mask: bytes, *, first: int = 0x81) -> bytes:
    """A client's frame (for self-tests); ``first`` is the byte with the final flag and the kind."""
    size = len(payload)
    if size < 126:
        head = b"%c%c" % (first, 0x80 | size)
    elif size < 65536:
        head = b"%c\xfe%b" % (first, size.to_bytes(2, "big"))
    else:
        head = b"%c\xff%b" % (first, size.to_bytes(8, "big"))
    return head + mask + unmasked(payload, mask)


class Batch:
    """Frames of one loop turn for the same receivers: JSON texts, and their joined wire form made on first use."""

    __slots__ = ("_wire", "payloads")

    def __init__(self, payloads: Sequence[bytes]) -> None:
        self.payloads = payloads
        self._wire: bytes | None = None

    @property
    def wire(self) -> bytes:
        """All of the frames as bytes for the socket."""
        if self._wire is None:
            self._wire = b"".join(map(text_frame, self.payloads))
        return self._wire
