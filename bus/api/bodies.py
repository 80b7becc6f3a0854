"""Request and answer bodies: bounded, strict JSON. Frames are passed on as bytes, without conversion to Python values."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, Any

import msgspec
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from ..conf.settings import config
from ..protocol.errors import BusError, ErrorCode
from ..protocol.faults import FrameError
from ..protocol.limits import nesting_within
from ..protocol.numbers import NUMBER_RULE, out_of_range, unusual


class WholeRequest(Request):
    """A request whose body may have a length or be chunked.

    DRF ignores the body of a request without Content-Length, such as a chunked request from a proxy.
    """

    def _authenticate(self) -> None:
        # As DRF does for its own errors: after the failure the request is anonymous, for the page that shows the error.
        try:
            super()._authenticate()  # type: ignore[misc] # of DRF, which its types leave out
        except BusError:
            self._not_authenticated()  # type: ignore[attr-defined]
            raise

    def _load_stream(self) -> None:
        django = self._request
        # One byte above the limit shows that the body is too long.
        data = django.body if django._read_started else django.read(config().batch_bytes + 1)  # type: ignore[attr-defined]
        self._stream = io.BytesIO(data) if data else None  # type: ignore[assignment] # as DRF's own


def read_body(stream: IO[bytes]) -> bytes:
    """The request's body. Raises ``BusError`` FRAME_TOO_LARGE, or INVALID_JSON if it nests too deeply."""
    limit = config().batch_bytes
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise BusError(ErrorCode.FRAME_TOO_LARGE, f"The body is larger than the limit of {limit} bytes.")
    # The frames of a batch lie two levels deep in the body.
    if not nesting_within(data, config().frame_depth + 2):
        raise FrameError(ErrorCode.INVALID_JSON, f"The body nests deeper than {config().frame_depth} levels.")
    return data


class JSONParser(BaseParser):
    """Parses a JSON body into a Python value."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The value. Raises ``BusError`` FRAME_TOO_LARGE, INVALID_JSON, or VALIDATION_ERROR for a number out of range."""
        try:
            body = read_body(stream)
            found = out_of_range(body) if unusual(body) else None
            if found is not None:
                raise BusError(ErrorCode.VALIDATION_ERROR, f"{found[:40].decode()} is out of range: {NUMBER_RULE}")
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as problem:
            raise BusError(ErrorCode.INVALID_JSON, f"The body is not JSON: {str(problem)[:200]}") from None


class FramesParser(BaseParser):
    """The body as bytes. The view reads its frames as the socket does."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The bytes of the body. Raises ``BusError`` FRAME_TOO_LARGE or INVALID_JSON."""
        return read_body(stream)


class JSONRenderer(BaseRenderer):
    """Renders an answer as JSON. Frames of the log keep the bytes of their delivery."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """The bytes of the answer's body."""
        return b"" if data is None else msgspec.json.encode(data, enc_hook=str)
