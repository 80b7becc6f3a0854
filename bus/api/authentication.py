"""Authentication of requests, as on the socket (``bus.auth.identity``): a bearer token, or a session cookie with CSRF."""

from __future__ import annotations

from typing import Any

import msgspec
from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from ..auth import identity
from ..auth.attempts import Attempts
from ..auth.permissions import Actor
from ..protocol.errors import BusError, ErrorCode
from ..sockets.origin import request_address


def actor_of(request: Request) -> Actor:
    """The actor of a request. An anonymous actor has its network address."""
    actor = request.auth
    if not isinstance(actor, Actor):
        actor = identity.ANONYMOUS
    return actor if actor.address else msgspec.structs.replace(actor, address=request_address(request._request))


def bearer_of(request: HttpRequest) -> str | None:
    """The bearer text of the ``Authorization`` header. Raises ``BusError`` UNAUTHENTICATED for any other scheme."""
    header = request.META.get("HTTP_AUTHORIZATION", "")
    if not header:
        return None
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise BusError(ErrorCode.UNAUTHENTICATED, "The Authorization header must be `Bearer` and an access token.")
    if identity.kind_of(secret.strip()) == identity.TICKET:
        # A ticket is made for a page, and opens one socket. Here a page could use it to create tokens that last.
        raise BusError(ErrorCode.UNAUTHENTICATED, "A ticket only opens sockets. Send an access token for REST.")
    return str(secret.strip())


def bearer_actor(request: HttpRequest) -> Actor:
    """The actor of the bearer text of a request, with its network address; anonymous without one.

    Raises ``BusError`` UNAUTHENTICATED, and RATE_LIMITED after too many failures.
    """
    secret, address = bearer_of(request), request_address(request)
    actor = identity.ANONYMOUS
    if secret is not None:
        attempts: Attempts = apps.get_app_config("bus").attempts  # type: ignore[attr-defined]
        with attempts.bearer(secret, address):
            actor = identity.from_bearer(secret)
    return msgspec.structs.replace(actor, address=address)


class BusAuthentication(BaseAuthentication):
    """``request.user`` is the Django user or an anonymous one, ``request.auth`` the :class:`~bus.auth.permissions.Actor`."""

    def authenticate(self, request: Request) -> tuple[Any, Actor] | None:
        """The user and actor of a request. None without credentials.

        Raises ``BusError`` UNAUTHENTICATED, and RATE_LIMITED after too many failures.
        """
        if bearer_of(request._request) is not None:
            return AnonymousUser(), bearer_actor(request._request)
        user = getattr(request._request, "user", None)
        if user is None or not user.is_authenticated or not user.is_active:
            return None
        # A browser sends the cookie with requests from any page. The CSRF token shows that the page is ours.
        SessionAuthentication().enforce_csrf(request)
        return user, identity.from_request(request._request)

    def authenticate_header(self, request: Request) -> str:
        """The value of ``WWW-Authenticate`` in an answer with status 401."""
        return 'Bearer realm="arqonbus"'
