"""The messages of MCP over HTTP as pure code: versions, headers, requests, and the form of every answer.

Two versions are served. In 2026-07-28 each request says all about itself, in ``_meta`` and in headers that repeat parts of the
body. In 2025-11-25 a client introduces itself with ``initialize``. This server remembers nothing of that, so both versions are
stateless.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

STATELESS, HANDSHAKE = "2026-07-28", "2025-11-25"
#: The served versions, the newest first.
VERSIONS = (STATELESS, HANDSHAKE)

VERSION_HEADER, METHOD_HEADER, NAME_HEADER = "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"

_META = "io.modelcontextprotocol/"
VERSION_KEY, CAPABILITIES_KEY = f"{_META}protocolVersion", f"{_META}clientCapabilities"
CLIENT_KEY, SERVER_KEY = f"{_META}clientInfo", f"{_META}serverInfo"

# The codes of JSON-RPC.
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
# The codes of MCP.
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

INITIALIZE = "initialize"
#: The methods whose name stands in a header too, each with the parameter.
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

#: How long a client may keep the answer to a question about the server, in milliseconds.
KEPT = 300_000

RequestId = str | int | None


class Refused(Exception):
    """A request that is refused. ``status`` is that of HTTP, and ``code`` that of JSON-RPC."""

    def __init__(self, status: int, code: int, message: str, *, data: Any = None, id: RequestId = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.data, self.id = status, code, message, data, id

    def body(self) -> bytes:
        """The JSON of the answer."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return msgspec.json.encode({"jsonrpc": "2.0", "id": self.id, "error": error})


class Request(msgspec.Struct, frozen=True):
    """A request of a client. ``version`` is one of :data:`VERSIONS`."""

    id: RequestId
    method: str
    params: dict[str, Any]
    version: str

    @property
    def stateless(self) -> bool:
        """Whether the request is of the version without a handshake."""
        return self.version == STATELESS

    @property
    def meta(self) -> dict[str, Any]:
        """What the request says about itself."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}

    def refused(self, code: int, message: str, *, status: int = 400, data: Any = None) -> Refused:
        """The refusal of this request.

        A client of the version with a handshake takes every status but 200 for a fault of the transport. So it gets 200 for
        everything that concerns a method.
        """
        return Refused(status if self.stateless else 200, code, message, data=data, id=self.id)

    def result(self, result: dict[str, Any], server: dict[str, str], *, kept: bool = False) -> bytes:
        """The JSON of the answer. ``kept`` says that everybody gets the same, so that clients may keep it for a while."""
        if self.stateless:
            result = {"resultType": "complete", **result, "_meta": {SERVER_KEY: server}}
            if kept:
                result |= {"ttlMs": KEPT, "cacheScope": "public"}
        return msgspec.json.encode({"jsonrpc": "2.0", "id": self.id, "result": result}, enc_hook=str)


def read(data: Any, headers: Mapping[str, str]) -> Request | None:
    """The request in the JSON value of a body. None for a notification, which needs no answer. Raises :class:`Refused`."""
    if not isinstance(data, dict):
        raise Refused(400, INVALID_REQUEST, "The body must be one JSON-RPC request. Send a batch one by one.")
    method, params = data.get("method"), data.get("params", {})
    known = data.get("id")
    if not isinstance(known, (str, int)) or isinstance(known, bool):
        known = None
    if data.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise Refused(400, INVALID_REQUEST, 'A request has `"jsonrpc": "2.0"` and a `method`.', id=known)
    if "id" in data and known is None:
        raise Refused(400, INVALID_REQUEST, "The `id` of a request must be a string or an integer.")
    if not isinstance(params, dict):
        raise Refused(400, INVALID_PARAMS, "`params` must be an object.", id=known)
    version = headers.get(VERSION_HEADER)
    if "id" not in data:
        if version is not None and version not in VERSIONS:
            raise unsupported(version, None)
        return None
    return Request(known, method, params, _version(method, params, headers, known))


def _version(method: str, params: dict[str, Any], headers: Mapping[str, str], id: RequestId) -> str:
    """The version of a request, after all checks that it asks for. Raises :class:`Refused`."""
    header = headers.get(VERSION_HEADER)
    meta = params.get("_meta")
    named = meta.get(VERSION_KEY) if isinstance(meta, dict) else None
    if method == INITIALIZE and named is None and header != STATELESS:
        # The client does not know yet which versions there are.
        return HANDSHAKE
    if header is None:
        raise Refused(
            400,
            HEADER_MISMATCH,
            f"The header {VERSION_HEADER} is missing. This server speaks {' and '.join(VERSIONS)}.",
            data={"supported": list(VERSIONS)},
            id=id,
        )
    if header == STATELESS or named is not None:
        if not isinstance(meta, dict) or not isinstance(named, str):
            raise Refused(400, INVALID_PARAMS, f"`params._meta` must have `{VERSION_KEY}`, a string.", id=id)
        if not isinstance(meta.get(CAPABILITIES_KEY), dict):
            raise Refused(400, INVALID_PARAMS, f"`params._meta` must have `{CAPABILITIES_KEY}`, an object.", id=id)
        _compare(VERSION_HEADER, header, named, id)
        if named != HANDSHAKE:
            _compare(METHOD_HEADER, headers.get(METHOD_HEADER), method, id)
            if method in NAMED:
                _compare(NAME_HEADER, plain(headers.get(NAME_HEADER)), params.get(NAMED[method]), id)
    if header not in VERSIONS:
        raise unsupported(header, id)
    return header


def _compare(name: str, header: str | None, body: Any, id: RequestId) -> None:
    if header is None:
        raise Refused(400, HEADER_MISMATCH, f"The header {name} is missing or malformed.", id=id)
    if header != body:
        raise Refused(400, HEADER_MISMATCH, f"The header {name} does not match the body.", id=id)


def plain(value: str | None) -> str | None:
    """The value of a header that may be in base64, between ``=?base64?`` and ``?=``. None for a malformed one."""
    if value is None or not (value.startswith("=?base64?") and value.endswith("?=")) or len(value) < 11:
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        return None


def unsupported(version: str, id: RequestId) -> Refused:
    """The refusal of an unknown version, with those that there are."""
    data = {"supported": list(VERSIONS), "requested": version[:64]}
    return Refused(400, UNSUPPORTED_VERSION, "Unsupported protocol version", data=data, id=id)
