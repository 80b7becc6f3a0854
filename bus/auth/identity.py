"""Identities: the one way from credentials to an :class:`Actor`, for the socket and REST.

A bearer shows an access token, a JWT or a ticket (:func:`from_bearer`). A browser of this site has a session
(:func:`from_session`). :func:`renewed` checks the identities of open connections after a change, and from time to time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, timedelta
from importlib import import_module
from typing import Any

import msgspec
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.db import DatabaseError, transaction
from django.http import HttpRequest
from django.utils import timezone

from ..conf.settings import config
from ..models import AccessChange, AccessToken, digest
from ..protocol.errors import BusError, ErrorCode
from . import jwts, own, tickets
from .permissions import ACTIONS, Actor

ANONYMOUS = Actor()

#: The permission that makes a Django user an admin of the bus.
ADMIN_PERMISSION = "bus.change_channel"

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"

#: One text for every reason. Different texts would tell strangers which tokens and users exist.
REFUSED = "The credentials are not valid."

TOKEN, JWT, TICKET, OWN = "token", "jwt", "ticket", "own"

#: Longest subject of a JWT that is a principal by itself, in characters. A digest with its prefix has 105.
LONGEST_SUBJECT = 100


def _refused(reason: str) -> BusError:
    """The refusal, with its reason for the log. The caller that answers the client writes the log line."""
    refusal = BusError(ErrorCode.UNAUTHENTICATED, REFUSED)
    refusal.reason = reason
    return refusal


# --- from credentials to an actor ---------------------------------------------------------------------------------------


def kind_of(bearer: str) -> str:
    """The kind of a bearer's text: TOKEN, JWT, TICKET or OWN. Each is checked in another place (``bus.sockets.handshake``)."""
    if bearer.startswith(tickets.PREFIX):
        return TICKET
    if own.enabled() and not bearer.startswith(AccessToken.PREFIX):
        return OWN
    if bearer.count(".") == 2 and not bearer.startswith(AccessToken.PREFIX):
        return JWT
    return TOKEN


def from_bearer(bearer: str) -> Actor:
    """The actor of an access token, a JWT, a ticket or a text of the project's own.

    Raises ``BusError`` UNAUTHENTICATED, with one text for every reason.

    Do not call this in an event loop: it queries the database, and a JWT may wait for the keys of its issuer.
    """
    return {TOKEN: from_token, JWT: from_jwt, TICKET: from_ticket, OWN: from_own}[kind_of(bearer)](bearer)


def from_user(user: Any, *, admin: bool | None = None) -> Actor:
    """The actor of a Django user; anonymous for a user that is not logged in or not active. ``admin`` skips the check.

    A project's user model may lack Django's ``PermissionsMixin``. Its users then have no groups. A user is an admin if it is
    staff and the model's own ``has_perm`` grants the permission.
    """
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return ANONYMOUS
    return Actor(
        principal=f"user:{user.pk}",
        name=user.get_username(),
        user=user.get_username(),
        admin=_administers(user) if admin is None else admin,
        groups=frozenset(group.name for group in user.groups.all()) if has_groups(user) else frozenset(),
    )


def has_groups(user: Any) -> bool:
    """Whether ``user``, or each user of a user model, has groups with names."""
    groups = (field.related_model._meta for field in user._meta.many_to_many if field.name == "groups")
    return any(field.name == "name" for options in groups for field in options.fields)


def _administers(user: Any) -> bool:
    if getattr(user, "is_superuser", False):
        return True
    if not hasattr(user, "user_permissions") and not getattr(user, "is_staff", False):
        # In Django's own example of such a model `has_perm` is true for everybody, because the admin checks for staff first.
        return False
    has_perm = getattr(user, "has_perm", None)
    return bool(has_perm and has_perm(ADMIN_PERMISSION))


def from_session(session_key: str) -> Actor:
    """The actor of a Django session; anonymous without a logged-in user, or in a project without sessions."""
    if not sessions_kept():
        return ANONYMOUS
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    request = HttpRequest()
    request.session = session
    return _in_session(get_user(request), session)


def from_request(request: HttpRequest) -> Actor:
    """The actor of a Django request by its session; anonymous without a logged-in user."""
    return _in_session(getattr(request, "user", None), getattr(request, "session", None))


def sessions_kept() -> bool:
    """Whether the project can store sessions with its SESSION_ENGINE. Otherwise a session cookie proves nothing."""
    return settings.SESSION_ENGINE not in _IN_TABLE or apps.is_installed("django.contrib.sessions")


def session_model() -> Any:
    """The model of the project's sessions; None if they are not in the database."""
    store = import_module(settings.SESSION_ENGINE).SessionStore
    return store.get_model_class() if hasattr(store, "get_model_class") and sessions_kept() else None


_IN_TABLE = ("django.contrib.sessions.backends.db", "django.contrib.sessions.backends.cached_db")


def _in_session(user: Any, session: Any) -> Actor:
    actor = from_user(user)
    if actor.anonymous or session is None or not session.session_key:
        return actor
    return msgspec.structs.replace(
        actor,
        credential=session_subject(session.session_key),
        proof=_proof(user),
        expires_at=session.get_expiry_date().timestamp(),
    )


def session_subject(session_key: str) -> str:
    """The name of a session in ``AccessChange`` and ``Actor.credential``. The session's key is a secret."""
    return f"session:{digest(session_key)[:32]}"


def _proof(user: Any) -> str:
    return digest(user.get_session_auth_hash())[:32]


def from_token(secret: str) -> Actor:
    """The actor of an access token. Raises ``BusError`` UNAUTHENTICATED."""
    token = AccessToken.objects.select_related("user").filter(digest=digest(secret)).first()
    if token is None:
        raise _refused("unknown token")
    if not token.is_good():
        raise _refused(f"token {token.prefix} is revoked, expired, or of an inactive user")
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        # A failed note of the use refuses nobody.
        with suppress(DatabaseError), transaction.atomic():
            AccessToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return _of_token(token, from_user(token.user))


def _of_token(token: AccessToken, owner: Actor) -> Actor:
    """The actor of a valid token. ``owner`` is the actor of its user, and anonymous for a token without a user."""
    return Actor(
        principal=owner.principal or f"token:{token.pk}",
        name=owner.user or token.name,
        user=owner.user,
        # Users name their own tokens freely, so the name alone identifies nothing.
        token=f"{owner.user}/{token.name}" if owner.user else token.name,
        admin=token.admin or owner.admin,
        groups=owner.groups,
        scopes=frozenset(token.scopes) if token.scopes else None,
        expires_at=token.expires_at.timestamp() if token.expires_at else None,
        credential=f"token:{token.pk}",
    )


def from_jwt(text: str) -> Actor:
    """The actor of a JWT. Raises ``BusError`` UNAUTHENTICATED."""
    if not jwts.enabled():
        raise _refused("a JWT, but no key is configured")
    try:
        claims = jwts.read(text)
    except jwts.NotGood as problem:
        raise _refused(f"JWT: {problem}") from None
    settings = config()
    subject: str = claims["sub"]
    short = _short(subject)
    scopes = _texts(claims.get(settings.jwt_scope_claim)) if settings.jwt_scope_claim else None
    return Actor(
        principal=f"jwt:{short}",
        name=subject[:150],
        # The mark keeps an issuer's "alice" apart from the Django user "alice".
        user=f"jwt:{short}",
        admin=bool(settings.jwt_admin_claim) and claims.get(settings.jwt_admin_claim) is True,
        groups=frozenset(_texts(claims.get(settings.jwt_groups_claim)) if settings.jwt_groups_claim else ()),
        scopes=None if scopes is None else frozenset(scopes) & frozenset(ACTIONS),
        expires_at=float(claims["exp"]) + settings.jwt_leeway,
        credential=f"jwt:{digest(text)[:32]}",
    )


def _short(subject: str) -> str:
    """A subject as a part of a principal. One that is too long for a principal becomes a digest.

    With a part of the subject in front it is longer than every subject that is used unchanged, so none equals the digest of
    another.
    """
    return subject if len(subject) <= LONGEST_SUBJECT else f"{subject[:40]}~{digest(subject)}"


def _texts(value: Any) -> Iterable[str]:
    """The printable texts of a claim: a list, or one text with spaces between."""
    items = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, str) and item.isprintable()]


def from_own(bearer: str) -> Actor:
    """The actor of a text that the project's own function knows, or else of a JWT or an access token.

    Raises ``BusError`` UNAUTHENTICATED, and what :func:`bus.auth.own.identified` raises.
    """
    found = own.identified(bearer)
    if found is None:
        # An access token has its prefix, and came another way.
        return from_jwt(bearer) if bearer.count(".") == 2 and jwts.enabled() else _refuse("unknown to the project")
    actor = _of_own(found, bearer)
    return _refuse("an inactive user, or no subject") if actor.anonymous else actor


def _refuse(reason: str) -> Actor:
    raise _refused(reason)


def _of_own(found: own.Identified, bearer: str) -> Actor:
    """The actor of somebody whom the project's function identified. Anonymous for an inactive user or without a subject."""
    actor = ANONYMOUS
    if found.user is not None:
        actor = from_user(found.user, admin=found.admin)
    elif found.subject:
        short = _short(found.subject)
        # The mark keeps a subject of the project apart from Django users and issuers.
        name = f"own:{short}"
        actor = Actor(principal=name, name=found.subject[:150], user=name, admin=bool(found.admin))
    if actor.anonymous:
        return actor
    expires_at = found.expires_at
    if expires_at is not None and timezone.is_naive(expires_at):
        expires_at = expires_at.replace(tzinfo=UTC)
    return msgspec.structs.replace(
        actor,
        groups=actor.groups if found.groups is None else frozenset(found.groups),
        scopes=None if found.scopes is None else frozenset(found.scopes) & frozenset(ACTIONS),
        expires_at=expires_at.timestamp() if expires_at is not None else None,
        credential=f"own:{digest(bearer)[:32]}",
        bearer=bearer,
    )


def from_ticket(text: str) -> Actor:
    """The actor of a ticket, which this call spends. Raises ``BusError`` UNAUTHENTICATED. Writes to the database."""
    actor = tickets.redeem(text)
    if actor is None:
        raise _refused("a forged, expired or used ticket")
    now = renewed([actor])[0]
    if isinstance(now, BusError):
        raise _refused("a ticket of an identity without access")
    return now


# --- checking identities again ------------------------------------------------------------------------------------------


def renewed(actors: Sequence[Actor]) -> list[Actor | BusError]:
    """Each identity as it is now, or the error that ends it: UNAUTHENTICATED (expired, logged out) or REVOKED.

    The number of queries does not depend on the number of actors, but for those whom the project's own function knows.
    """
    known = _Known(actors)
    return [known.renewed(actor) for actor in actors]


class _Known:
    """The rows that some actors depend on: tokens, users, sessions and permissions."""

    def __init__(self, actors: Sequence[Actor]) -> None:
        self._tokens = {
            f"token:{token.pk}": token
            for token in AccessToken.objects.select_related("user").filter(pk__in=_keys(actors, "credential", "token"))
        }
        manager = get_user_model()._default_manager
        keys = _keys(actors, "principal", "user")
        users = manager.filter(pk__in=keys)
        if has_groups(manager.model):
            users = users.prefetch_related("groups")
        self._users = {f"user:{user.pk}": user for user in users}
        self._admins: set[str] | None = None
        standard = hasattr(manager.model, "user_permissions") and hasattr(manager, "with_perm")
        if settings.AUTHENTICATION_BACKENDS == [MODEL_BACKEND] and standard:
            admins = manager.with_perm(ADMIN_PERMISSION, backend=MODEL_BACKEND).filter(pk__in=keys)
            self._admins = {f"user:{key}" for key in admins.values_list("pk", flat=True)}
        sessions = {actor.credential for actor in actors if actor.credential.startswith("session:")}
        ended = AccessChange.objects.filter(subject__in=sessions).values_list("subject", flat=True)
        self._ended = set(ended) if sessions else set()

    def renewed(self, actor: Actor) -> Actor | BusError:
        kind = actor.credential.partition(":")[0]
        if actor.expires_at is not None and actor.expires_at <= time.time():
            text = "Your session has ended. Log in again." if kind == "session" else "Your access has expired."
            return BusError(ErrorCode.UNAUTHENTICATED, text)
        if kind == "token":
            token = self._tokens.get(actor.credential)
            if token is None or not token.is_good():
                return BusError(ErrorCode.REVOKED)
            return self._here(actor, _of_token(token, self._owner(actor.principal)))
        if kind == "own":
            return self._asked_again(actor) if actor.bearer else self._of_ticket(actor)
        if actor.principal.startswith("user:"):
            now = self._owner(actor.principal)
            if now.anonymous:
                return BusError(ErrorCode.REVOKED)
            if kind == "session" and (
                actor.credential in self._ended or actor.proof != _proof(self._users[actor.principal])
            ):
                return BusError(ErrorCode.UNAUTHENTICATED, "Your session has ended. Log in again.")
            return self._here(
                actor,
                msgspec.structs.replace(
                    now, credential=actor.credential, proof=actor.proof, expires_at=actor.expires_at
                ),
            )
        return actor

    def _asked_again(self, actor: Actor) -> Actor | BusError:
        try:
            found = own.identified(actor.bearer) if own.enabled() else None
        except BusError:
            # A fault of the project's function ends nobody's access.
            return actor
        now = ANONYMOUS if found is None else _of_own(found, actor.bearer)
        return BusError(ErrorCode.REVOKED) if now.principal != actor.principal else self._here(actor, now)

    def _of_ticket(self, actor: Actor) -> Actor | BusError:
        """Somebody whom the project's function knew when it got a ticket. Its rights stay as the function bounded them."""
        gone = actor.principal.startswith("user:") and self._owner(actor.principal).anonymous
        return BusError(ErrorCode.REVOKED) if gone else actor

    def _owner(self, principal: str) -> Actor:
        admin = None if self._admins is None else principal in self._admins
        return from_user(self._users.get(principal), admin=admin)

    @staticmethod
    def _here(old: Actor, new: Actor) -> Actor:
        """The new rights on the old connection."""
        return msgspec.structs.replace(new, client_id=old.client_id, client_type=old.client_type, address=old.address)


def _keys(actors: Iterable[Actor], attribute: str, kind: str) -> set[str]:
    parts = (getattr(actor, attribute).partition(":") for actor in actors)
    return {key for found, _, key in parts if found == kind}
