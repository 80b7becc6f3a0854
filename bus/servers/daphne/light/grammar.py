"""The usual WebSocket handshake, read from its bytes. Pure code.

Whatever is not certainly decided the same by Twisted, daphne and Autobahn is not usual, and is left to them: a header that comes
twice or is folded, bytes that are not visible ASCII, an escape in the path, a body, bytes behind the head, an offer that few
clients make.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: The longest head that is usual, in bytes, and the most headers in it. Twisted allows 16 KiB.
LONGEST, HEADERS = 8192, 64

# Possessive repeats: each byte is looked at a bounded number of times, whatever a stranger sends.
_REQUEST = re.compile(rb"GET (/(?!/)[A-Za-z0-9._~/@+-]*+)(?:\?([!\"$-~]*+))? HTTP/1\.1\r\n")
_LINES = re.compile(rb"(?:[!#$%&'*+.^`|~0-9A-Za-z-]++:[\t -~]*+\r\n)++\r\n")
_HEADER = re.compile(rb"([^:\r\n]++):([^\r\n]*+)\r\n")

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{1,5})?")
_ORIGIN = re.compile(rb"null|https?://[A-Za-z0-9._-]++(?::([0-9]{1,5}))?")
_CONNECTION = re.compile(rb"(?i:(?:keep-alive, ?)?upgrade)")
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_PROTOCOLS = re.compile(rb"[!#$&'*+.^_`|~0-9A-Za-z-]++(?:, ?[!#$&'*+.^_`|~0-9A-Za-z-]++)*+")

#: Headers that change what the request is, or what daphne does with it.
_UNUSUAL = (b"content-length", b"transfer-encoding", b"expect", b"te", b"trailer", b"daphne-root-path")
#: The offers of compression that browsers and common clients make.
OFFERS = frozenset({
    b"permessage-deflate",
    b"permessage-deflate; client_max_window_bits",
    b"permessage-deflate;client_max_window_bits",
    b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
})  # fmt: skip


class Head(NamedTuple):
    """The head of a usual handshake."""

    path: bytes
    query: bytes
    #: Names in lower case, each once, in the order in which they came.
    headers: list[tuple[bytes, bytes]]
    key: bytes
    protocols: list[str]
    #: The value of ``Sec-WebSocket-Extensions``, one of :data:`OFFERS`; empty without that header.
    offer: bytes
    origin: bytes


def read_head(data: bytes) -> Head | None:
    """Return the head if ``data`` is the head of a usual handshake and nothing else."""
    if len(data) > LONGEST:
        return None
    request = _REQUEST.match(data)
    if request is None or _LINES.fullmatch(data, request.end()) is None:
        return None
    headers = [(name.lower(), value.strip(b" \t")) for name, value in _HEADER.findall(data, request.end())]
    named = dict(headers)
    if len(named) != len(headers) or len(headers) > HEADERS or any(name in named for name in _UNUSUAL):
        return None
    if named.get(b"upgrade", b"").lower() != b"websocket" or named.get(b"sec-websocket-version") != b"13":
        return None
    key = named.get(b"sec-websocket-key", b"")
    if not (_is(_HOST, named, b"host") and _is(_CONNECTION, named, b"connection") and _KEY.fullmatch(key)):
        return None
    protocols: list[str] = []
    if b"sec-websocket-protocol" in named:
        if not _is(_PROTOCOLS, named, b"sec-websocket-protocol"):
            return None
        protocols = [part.strip() for part in named[b"sec-websocket-protocol"].decode("ascii").split(",")]
        if len(set(protocols)) != len(protocols):
            return None
    offer, origin = named.get(b"sec-websocket-extensions", b""), named.get(b"origin", b"")
    if b"sec-websocket-extensions" in named and offer not in OFFERS:
        return None
    if b"origin" in named:
        found = _ORIGIN.fullmatch(origin)
        if found is None or int(found[1] or 0) > 65_535:
            return None
    return Head(request[1], request[2] or b"", headers, key, protocols, offer, origin)


def _is(form: re.Pattern[bytes], named: dict[bytes, bytes], name: bytes) -> bool:
    return form.fullmatch(named.get(name, b"")) is not None
