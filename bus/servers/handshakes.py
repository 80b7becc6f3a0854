"""What HTTP may cost before anybody is identified: time, and bytes, on daphne (``daphne_lines``) and uvicorn (``uvicorn_lines``).

A request has to be there as a whole within ``handshake_timeout``, its body included; the next one of a line is looked at when
the answer to the one before it has left; a handshake has no body. ``lines`` looks after that.
"""

from __future__ import annotations

from collections.abc import Iterable


def check_framing(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise ``ValueError`` for a request whose body has two lengths, and for a handshake with a body.

    A proxy in front that goes by the other length would take the rest of the body for somebody else's request. What follows a
    handshake is the WebSocket's; no client has something to say before it was answered.
    """
    found = [(name.lower(), value.strip().lower()) for name, value in headers]
    lengths = [value for name, value in found if name == b"content-length"]
    encoded = any(name == b"transfer-encoding" for name, _ in found)
    if lengths and encoded:
        raise ValueError("a body of two lengths")
    if any(name == b"upgrade" and b"websocket" in value for name, value in found) and (
        encoded or any(value.strip(b"0") for value in lengths)
    ):
        raise ValueError("a handshake with a body")
