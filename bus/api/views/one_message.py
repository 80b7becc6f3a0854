"""The views of one message: show it, and erase it."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...protocol.errors import BusError, ErrorCode
from ...protocol.values import seq_of
from ...services import erasing, history
from ..schema import ADDRESS, operation, path
from .base import DOOR, BusView, address_of

SEQ = OpenApiParameter("seq", OpenApiTypes.INT64, OpenApiParameter.PATH, description="Position in the log.")
UID = path("uid", "Id of a message. Write a slash within it as `%252F`.", r"^[A-Za-z0-9_.:@-]{1,160}$", "arq_7f3a")
FOLD = OpenApiParameter(
    "fold", OpenApiTypes.BOOL, OpenApiParameter.QUERY, description="With its amendments, and the text of its stream."
)
WHERE = OpenApiParameter(
    "channel",
    OpenApiTypes.STR,
    OpenApiParameter.QUERY,
    description="The channel as `room:channel`. Without it, the newest 50,000 messages of the bus are searched.",
)
AT = OpenApiParameter(
    "seq",
    OpenApiTypes.INT64,
    OpenApiParameter.QUERY,
    description="Position in the channel. Without it, the newest 10,000 messages of the channel are searched.",
)

_FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}
_LARGEST = 2**63 - 1


def _fold(request: Request) -> bool:
    """The parameter ``fold``. Raises ``BusError`` VALIDATION_ERROR."""
    given = _FLAGS.get(request.query_params.get("fold", "").lower())
    if given is None:
        raise _wrong("fold", "`fold` must be 1 or 0.")
    return given


def _wrong(field: str, message: str) -> BusError:
    return BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": message}])


class OneMessage(BusView):
    """``/channels/{address}/messages/{seq}``."""

    @operation(
        "channel_messages_get",
        "Show a message",
        shapes.Message,
        tag="messages",
        parameters=[ADDRESS, SEQ, FOLD],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.ROOM_NOT_FOUND, ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.NOT_FOUND),
    )
    def get(self, request: Request, address: str, seq: str) -> Response:
        """One message, by its position in the log."""
        frame = history.message(self.actor, address_of(address), min(int(seq), _LARGEST), fold=_fold(request))
        return Response(msgspec.Raw(frame))


class Erase(BusView):
    """``/channels/{address}/messages/{seq}/erase``."""

    @operation(
        "channel_messages_erase",
        "Erase a message",
        shapes.ErasedMessages,
        tag="messages",
        parameters=[ADDRESS, SEQ],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.MESSAGE_NOT_FOUND),
    )
    def post(self, request: Request, address: str, seq: str) -> Response:
        """Erase the content of a message and of its amendments for ever. This needs the right to manage the channel.

        The message keeps its place, id, sender and time. Everything that belongs to it is blanked too: its stream, the result of
        its job, its dead letters, the arguments of its decision. Members of the channel are told.
        """
        place = address_of(address)
        return Response(erasing.erase_message(place, seq=min(int(seq), _LARGEST), actor=self.actor, door=DOOR))


class OneMessageById(BusView):
    """``/messages/{uid}``."""

    @operation(
        "messages_get",
        "Show a message by its id",
        shapes.Message,
        tag="messages",
        parameters=[UID, WHERE, AT, FOLD],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.ROOM_NOT_FOUND, ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.NOT_FOUND),
    )
    def get(self, request: Request, uid: str) -> Response:
        """One message, by its id. Name its channel and its position if you know them: no index has the ids."""
        channel = request.query_params.get("channel")
        seq = seq_of(request.query_params.get("seq"))
        if seq is not None and not isinstance(seq, int):
            raise _wrong("seq", "`seq` must be a position in the log.")
        frame = history.message_of(
            self.actor,
            unquote(uid),
            address=address_of(channel) if channel else None,
            seq=seq,
            fold=_fold(request),
        )
        return Response(msgspec.Raw(frame))
