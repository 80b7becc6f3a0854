"""The views of streamed messages: their state, and what their owners do with them."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...conf.settings import config
from ...directory.streams import find_stream
from ...protocol.appends import APPEND
from ...protocol.dialects import decode_object, normalise
from ...protocol.errors import BusError, ErrorCode
from ...protocol.faults import FrameError
from ...protocol.frames import quoted
from ...protocol.inbound import COMPLETE, Inbound
from ...protocol.numbers import unusual
from ...protocol.session import read_within
from ...publishing.django import publish_frames
from ...publishing.plan import limits_of
from ...services import growing
from ..bodies import FramesParser
from ..schema import OF, SPEAKER, SPEAKER_ERRORS, operation
from ..serializers import streams as bodies
from ..throttling import spend
from .base import DOOR, BusView

APPEND_ERRORS = (
    ErrorCode.STREAM_NOT_FOUND,
    ErrorCode.STREAM_GAP,
    ErrorCode.STREAM_ENDED,
    ErrorCode.STREAM_LOST,
    *SPEAKER_ERRORS,
)
#: The keys of an append's body, and of an end's.
_PART_KEYS = frozenset({"n", "delta", "part", "took", "token"})
_END_KEYS = _PART_KEYS | {"state", "payload", "id"}


class OneStream(BusView):
    """``/streams/{of}``."""

    @operation(
        "streams_get",
        "Show a streamed message",
        shapes.Stream,
        tag="streams",
        parameters=[OF],
        errors=(ErrorCode.STREAM_NOT_FOUND,),
    )
    def get(self, request: Request, of: str) -> Response:
        """How far a streamed message is, also after its end. Its text is in `/events`, and in the history with `fold=1`."""
        state, ref = find_stream(self.actor, unquote(of))
        return Response(
            shapes.Stream(
                of=state.uid,
                room=ref.address.room,
                channel=ref.address.channel,
                seq=state.seq,
                mode=state.mode,
                state=state.state,
                have=state.have,
                attempt=state.attempt,
                stopping=state.stopping,
                steers=state.steers,
                end_seq=state.end_seq,
            )
        )


class _AppendView(BusView):
    parser_classes = [FramesParser]

    def append(self, of: str, keys: frozenset[str]) -> shapes.Published:
        """Publish the body as an append to the stream, and return its place."""
        data: Any = self.request.data
        # The first token of the request was taken already, so only the bytes are left.
        spend(self.actor, 0, len(data))
        inbound = read_append(data if isinstance(data, bytes) else b"", unquote(of), keys)
        return publish_frames([inbound], actor=self.speaker()[0]).published[0]


def read_append(data: bytes, of: str, keys: frozenset[str]) -> Inbound:
    """The append of a body with these ``keys``, read by the grammar of the socket. Raises ``BusError`` as on the socket."""
    raw = decode_object(data)
    unknown = sorted(raw.keys() - keys)
    if unknown:
        known = ", ".join(sorted(keys))
        raise FrameError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": key, "message": f"There is no such field. The fields are {known}."} for key in unknown],
        )
    frame = {**raw, "type": msgspec.Raw(quoted(APPEND)), "of": msgspec.Raw(quoted(of))}
    if "state" in keys:
        frame["end"] = frame.pop("state", msgspec.Raw(quoted(COMPLETE)))
    try:
        return read_within(data, limits_of(config()), lambda data: normalise(frame, numbers=unusual(data)))
    except BusError as problem:
        for detail in problem.details:
            if detail.get("field") == "end":
                # The body calls it otherwise than the frame.
                detail |= {"field": "state", "message": str(detail["message"]).replace("`end`", "`state`")}
        raise


class Append(_AppendView):
    """``/streams/{of}/append``."""

    @operation(
        "streams_append",
        "Append to a streamed message",
        shapes.StreamPlace,
        tag="streams",
        request=bodies.StreamAppend,
        parameters=[OF, SPEAKER],
        errors=APPEND_ERRORS,
    )
    def post(self, request: Request, of: str) -> Response:
        """Add the next part. For the owner, who opened the stream or adopted it. A repeated part changes nothing.

        The answer says whether somebody asked the owner to stop (`stopping`), and which messages steer it (`steers`).
        """
        return Response(self.append(of, _PART_KEYS).stream)


class End(_AppendView):
    """``/streams/{of}/end``."""

    @operation(
        "streams_end",
        "End a streamed message",
        shapes.Published,
        tag="streams",
        request=bodies.StreamEnd,
        parameters=[OF, SPEAKER],
        errors=APPEND_ERRORS,
    )
    def post(self, request: Request, of: str) -> Response:
        """End the message, with a last part or without one. The end is a message with the whole text. It may be repeated."""
        return Response(self.append(of, _END_KEYS))


class Stop(BusView):
    """``/streams/{of}/stop``."""

    @operation(
        "streams_stop",
        "Ask the owner of a streamed message to stop",
        shapes.StoppedStream,
        tag="streams",
        parameters=[OF],
        errors=(ErrorCode.STREAM_NOT_FOUND,),
    )
    def post(self, request: Request, of: str) -> Response:
        """Ask the owner to stop. Whoever may publish in the channel may do so. Without an owner the server ends the message."""
        return Response(growing.stop_stream(unquote(of), actor=self.actor, door=DOOR))


class Adopt(BusView):
    """``/streams/{of}/adopt``."""

    @operation(
        "streams_adopt",
        "Adopt a streamed message",
        shapes.AdoptedStream,
        tag="streams",
        request=bodies.StreamAdoption,
        parameters=[OF, SPEAKER],
        errors=(ErrorCode.STREAM_NOT_FOUND, ErrorCode.STREAM_ENDED, *SPEAKER_ERRORS),
    )
    def post(self, request: Request, of: str) -> Response:
        """Become the owner of an open stream of your own identity. The appends of the old owner are refused from then on."""
        keep = self.read(bodies.StreamAdoption).get("keep", True)
        return Response(growing.adopt_stream(unquote(of), keep=keep, actor=self.speaker()[0], door=DOOR))
