"""Frames that are built once and written to many sockets."""

from __future__ import annotations

from collections.abc import Sequence


def text_frame(payload: bytes) -> bytes:
    """One unmasked, final WebSocket text frame (RFC 6455 §5.2) around ``payload``, which is UTF-8."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


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
