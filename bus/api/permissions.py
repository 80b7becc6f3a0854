"""Access to the REST API. The services check each action with ``bus.auth.permissions``."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from ..auth.permissions import Actor
from ..conf.settings import anonymous_allowed
from ..protocol.errors import BusError, ErrorCode
from ..sockets.origin import check_page
from .authentication import actor_of


def check_caller(request: HttpRequest, actor: Actor) -> None:
    """Check that a caller may use the bus at all: identified, or anonymous from a page of ours where that is allowed.

    Raises ``BusError`` UNAUTHENTICATED or ORIGIN_REFUSED.
    """
    if actor.anonymous:
        if not anonymous_allowed():
            raise BusError(ErrorCode.UNAUTHENTICATED)
        check_page(request)


class MayUseBus(BasePermission):
    """Allows authenticated callers, and anonymous ones if the setting allows them, as on the socket."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """True, or raises ``BusError`` UNAUTHENTICATED or ORIGIN_REFUSED."""
        check_caller(request._request, actor_of(request))
        return True


class IsBusAdmin(MayUseBus):
    """Allows admins of the bus whose token allows ``manage``."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """True, or raises ``BusError`` UNAUTHENTICATED or FORBIDDEN."""
        super().has_permission(request, view)
        if not actor_of(request).manages:
            raise BusError(ErrorCode.FORBIDDEN, "Only admins of the bus may do this.")
        return True
