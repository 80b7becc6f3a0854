"""The view of the caller's mark in a log."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...protocol.errors import ErrorCode
from ...services import marking
from ..schema import ADDRESS, operation
from ..serializers import marks as bodies
from .base import BusView, address_of


class OwnMark(BusView):
    """``/channels/{address}/mark``."""

    @operation(
        "channel_mark",
        "Show your mark in a channel",
        shapes.Mark,
        tag="channels",
        parameters=[ADDRESS],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND),
    )
    def get(self, request: Request, address: str) -> Response:
        """How far you have dealt with a channel or your inbox, and how many messages are unread. This needs an identity."""
        return Response(marking.read(address_of(address), actor=self.actor))

    @operation(
        "channel_mark_move",
        "Move your mark in a channel",
        shapes.Mark,
        tag="channels",
        request=bodies.NewMark,
        parameters=[ADDRESS],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.LIMIT_REACHED),
    )
    def put(self, request: Request, address: str) -> Response:
        """Note how far you have dealt with a channel or your inbox, like `mark`. The answer is the mark as it is now.

        A smaller `seq` moves nothing without `back`.
        """
        return Response(marking.mark(address_of(address), **self.read(bodies.NewMark), actor=self.actor))
