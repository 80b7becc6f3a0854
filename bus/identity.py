"""Who a client is (contract §6): one way from credentials to an :class:`Actor`, for the socket and REST."""

from __future__ import annotations

import time
from datetime import timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.http import HttpRequest
from django.utils import timezone

from .models import AccessToken, digest
from .permissions import Actor
from .protocol.errors import BusError

ANONYMOUS = Actor()

#: The permission that makes a Django user an admin of the bus.
ADMIN_PERMISSION = "bus.change_channel"

#: Being told apart would tell strangers which tokens and users exist.
REFUSED = "The credentials are not valid."


def from_user(user: Any) -> Actor:
    """The actor of a Django user; anonymous for one that is not logged in or not active."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return ANONYMOUS
    return Actor(
        principal=f"user:{user.pk}",
        name=user.get_username(),
        user=user.get_username(),
        admin=user.is_superuser or user.has_perm(ADMIN_PERMISSION),
        groups=frozenset(user.groups.values_list("name", flat=True)),
    )


def from_session(session_key: str) -> Actor:
    """The actor of a Django session; anonymous when nobody is logged in there."""
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    request = HttpRequest()
    request.session = session
    return from_user(get_user(request))


def from_token(secret: str) -> Actor:
    """The actor of a bearer token. Raises ``BusError`` UNAUTHENTICATED, with one text for every reason."""
    token = AccessToken.objects.select_related("user").filter(digest=digest(secret)).first()
    if token is None or not token.is_good():
        raise BusError("UNAUTHENTICATED", REFUSED)
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        AccessToken.objects.filter(pk=token.pk).update(last_used_at=now)
    owner = from_user(token.user) if token.user is not None else ANONYMOUS
    return Actor(
        principal=owner.principal or f"token:{token.pk}",
        name=owner.user or token.name,
        user=owner.user,
        token=token.name,
        admin=token.admin or owner.admin,
        groups=owner.groups,
        scopes=frozenset(token.scopes) if token.scopes else None,
        expires_at=token.expires_at.timestamp() if token.expires_at else None,
        credential=f"token:{token.pk}",
    )


def still_good(actor: Actor) -> bool:
    """Whether an identity that was let in would be let in now."""
    if actor.expires_at is not None and actor.expires_at <= time.time():
        return False
    kind, _, key = actor.credential.partition(":")
    if kind == "token":
        token = AccessToken.objects.select_related("user").filter(pk=key).first()
        return token is not None and token.is_good()
    kind, _, key = actor.principal.partition(":")
    if kind == "user":
        return bool(get_user_model()._default_manager.filter(pk=key, is_active=True).exists())
    return True
