"""The views of the project's handlers: how far they are, and what to do about one that stands still."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...protocol.errors import ErrorCode
from ...services import handlers as service
from ..permissions import IsBusAdmin
from ..schema import ADDRESS, operation
from ..serializers import handlers as bodies
from .base import DOOR, BusView, address_of


class Handlers(BusView):
    """``/handlers``."""

    permission_classes = [IsBusAdmin]

    @operation("handlers_list", "List the handlers", shapes.HandlerList, tag="server")
    def get(self, request: Request) -> Response:
        """The handlers of the project, how far they are, and where they wait or stand still. For admins."""
        return Response(shapes.HandlerList(results=service.rows()))


class OfChannel(BusView):
    """``/channels/{address}/handlers``."""

    @operation(
        "handlers_help",
        "Help a handler that stands still",
        tag="server",
        status=204,
        request=bodies.HandlerHelp,
        parameters=[ADDRESS],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.NOT_FOUND, ErrorCode.BUSY),
    )
    def post(self, request: Request, address: str) -> Response:
        """Let a handler try its next message of the channel again at once, or go on behind it. Needs the right to manage."""
        given = self.read(bodies.HandlerHelp)
        act = service.retry if given["next"] == "retry" else service.skip
        act(self.actor, given["handler"], address_of(address), door=DOOR)
        return Response(status=204)
