"""Create and revoke access tokens, for every interface."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

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
    """Make a token; returns the row and the secret, which is kept nowhere.

    ``user`` is the Django user it acts for, ``scopes`` the actions it is good for (none: all that its bearer may do). Admins make
    any token, others only ones for themselves that are not admins'; and who came with a token that has scopes gives out no
    more than those. Raises ``BusError`` FORBIDDEN or VALIDATION_ERROR.
    """
    scopes = list(scopes)
    if actor.credential.startswith("token:") and actor.expires_at is not None:
        # A token gives out none that outlives it.
        end = datetime.fromtimestamp(actor.expires_at, UTC)
        expires_at = min(expires_at, end) if expires_at is not None else end
    if not (actor.manages or (_is(actor, user) and not admin)):
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may create tokens for others, or admin tokens.")
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


def acts_whole(actor: Actor) -> bool:
    """Whether ``actor`` may see and end what its user has otherwise: who came with a bounded token may not, unless to manage."""
    return actor.scopes is None or MANAGE in actor.scopes


def user_of(actor: Actor) -> Any:
    """The Django user behind ``actor``. Raises ``BusError`` FORBIDDEN where there is none."""
    kind, _, key = actor.principal.partition(":")
    user = get_user_model()._default_manager.filter(pk=key).first() if kind == "user" else None
    if user is None:
        raise BusError(
            ErrorCode.FORBIDDEN,
            "Only users of the site may create their own tokens. Admins create other tokens in the admin.",
        )
    return user


def revoke(actor: Actor, token: AccessToken, *, door: str) -> None:
    """End a token at once, on every process; connections that came in with it are closed.

    For admins, the token's user, and whoever came with it; what has scopes without ``manage`` revokes itself only.
    Raises ``BusError`` FORBIDDEN.
    """
    if not (actor.manages or (_is(actor, token.user) and acts_whole(actor)) or actor.credential == f"token:{token.pk}"):
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may revoke the tokens of others.")
    if token.revoked_at is not None:
        return
    with transaction.atomic():
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        audit.record(actor, door, "revoke_token", token.name, prefix=token.prefix)
