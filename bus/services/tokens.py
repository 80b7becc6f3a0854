"""Create and revoke access tokens, for every interface."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from ..auth.identity import from_user
from ..auth.permissions import ACTIONS, MANAGE, Actor
from ..models import AccessToken
from ..protocol.errors import BusError, ErrorCode
from . import audit


def create(
    actor: Actor,
    name: str,
    *,
    user: Any = None,
    admin: bool = False,
    scopes: Iterable[str] = (),
    expires_at: datetime | None = None,
    door: str,
) -> tuple[AccessToken, str]:
    """Create a token. Return its row and the secret, which is not stored.

    ``user`` is the Django user for whom the token acts. ``scopes`` are the actions that it allows; none: every action of
    its user. Admins create any token. Other users create tokens for themselves, without ``admin``. An actor with scopes
    can only grant scopes of its own, and one whom the project's function gave less than its user has can grant none. A token
    never outlives the token of its creator. Raises ``BusError`` FORBIDDEN or VALIDATION_ERROR.
    """
    scopes = list(scopes)
    if actor.credential.startswith(("token:", "own:")) and actor.expires_at is not None:
        # A new token must not outlive the token that creates it.
        end = datetime.fromtimestamp(actor.expires_at, UTC)
        expires_at = min(expires_at, end) if expires_at is not None else end
    if not (actor.manages or (_is(actor, user) and not admin)):
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may create tokens for others, or admin tokens.")
    if not actor.manages and actor.credential.startswith("own:") and _is_bounded(actor, user):
        raise BusError(ErrorCode.FORBIDDEN, "Your own token has not all rights of its user, so it creates no others.")
    if actor.scopes is not None and not (scopes and actor.scopes.issuperset(scopes)):
        raise BusError(
            ErrorCode.FORBIDDEN,
            f"Your own token only allows {', '.join(sorted(actor.scopes))}. Give `scopes` within that.",
        )
    faults = []
    if not name.strip() or len(name) > 100:
        faults.append({"field": "name", "message": "The name must have 1 to 100 characters."})
    wanted = sorted(set(scopes))
    faults += [
        {"field": "scopes", "message": f"{scope!r} is not an action. The actions are: {', '.join(sorted(ACTIONS))}."}
        for scope in wanted
        if scope not in ACTIONS
    ]
    if expires_at is not None and expires_at <= timezone.now():
        faults.append({"field": "expires_at", "message": "This time is in the past."})
    if faults:
        raise BusError(ErrorCode.VALIDATION_ERROR, faults[0]["message"], faults)
    with transaction.atomic():
        token, secret = AccessToken.issue(name.strip(), user=user, admin=admin, scopes=wanted, expires_at=expires_at)
        audit.record(actor, door, "create_token", token.name, prefix=token.prefix, admin=admin, scopes=wanted)
    return token, secret


def _is(actor: Actor, user: Any) -> bool:
    return user is not None and actor.principal == f"user:{user.pk}"


def _is_bounded(actor: Actor, user: Any) -> bool:
    """Return whether an actor has not all rights of its user, which a new token would have."""
    whole = from_user(user)
    return not (actor.admin >= whole.admin and actor.groups >= whole.groups)


def acts_whole(actor: Actor) -> bool:
    """Return whether ``actor`` may see and end its user's other credentials. A token with scopes needs ``manage`` for that."""
    return actor.scopes is None or MANAGE in actor.scopes


def user_of(actor: Actor) -> Any:
    """Return the Django user behind ``actor``. Raises ``BusError`` FORBIDDEN where there is none."""
    kind, _, key = actor.principal.partition(":")
    user = get_user_model()._default_manager.filter(pk=key).first() if kind == "user" else None
    if user is None:
        raise BusError(
            ErrorCode.FORBIDDEN,
            "Only users of the site may create their own tokens. Admins create other tokens in the admin.",
        )
    return user


def revoke(actor: Actor, token: AccessToken, *, door: str) -> None:
    """Revoke a token on every process, and close the connections that use it.

    Admins may revoke any token, users their own tokens, and a bearer its own token. A token with scopes but without
    ``manage`` can only revoke itself. Raises ``BusError`` FORBIDDEN.
    """
    if not (actor.manages or (_is(actor, token.user) and acts_whole(actor)) or actor.credential == f"token:{token.pk}"):
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may revoke the tokens of others.")
    if token.revoked_at is not None:
        return
    with transaction.atomic():
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        audit.record(actor, door, "revoke_token", token.name, prefix=token.prefix)
