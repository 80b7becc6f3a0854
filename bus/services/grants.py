"""Grants: create, change and remove rules. Running processes apply changes at once (``bus.receivers``)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction

from ..auth.permissions import ACTIONS, ME, Actor
from ..conf.settings import config
from ..models import AccessToken, Grant
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import INBOX_ROOM, WHOLE, is_client_id, is_name
from . import audit

FIELDS = ("subject", "subject_name", "action", "pattern", "allow")

#: Subjects that need a name.
NAMED = (Grant.Subject.USER, Grant.Subject.GROUP, Grant.Subject.TOKEN, Grant.Subject.CLIENT_TYPE)


NO_PATTERN = (
    "The pattern must be room:channel with * for any text, such as science:*, *:news or team-*:*. * alone means everywhere. "
    "{me} is the id of the caller, such as user-7, and has no * beside it."
)


def check(values: dict[str, Any]) -> None:
    """Raise ``BusError`` VALIDATION_ERROR with every fault of a grant's ``values`` (all of :data:`FIELDS`)."""
    faults = [{"field": field, "message": message} for field, message in faults_of(values)]
    if faults:
        raise BusError(ErrorCode.VALIDATION_ERROR, faults[0]["message"], faults)


def faults_of(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return ``(field, message)`` for each fault in a grant's ``values``."""
    faults: list[tuple[str, str]] = []
    subject, name = values["subject"], values["subject_name"]
    if subject not in Grant.Subject.values:
        faults.append(("subject", f"This must be one of {', '.join(Grant.Subject.values)}."))
    elif subject in NAMED and not name:
        faults.append(("subject_name", f"The name of the {subject} is missing."))
    elif subject not in NAMED and name:
        faults.append(("subject_name", f"This must be empty, because the subject is {subject}."))
    if values["action"] not in (*ACTIONS, "*"):
        faults.append(("action", f"This must be one of {', '.join(ACTIONS)} or *."))
    if not is_pattern(values["pattern"]):
        faults.append(("pattern", NO_PATTERN))
    return faults


def nobody_yet(grant: Grant) -> str:
    """Return a warning for a grant whose subject does not exist yet; otherwise an empty text."""
    name, found = grant.subject_name, True
    if grant.subject == Grant.Subject.USER and not name.startswith("jwt:"):
        users = get_user_model()
        found = users._default_manager.filter(**{users.USERNAME_FIELD: name}).exists()
    elif grant.subject == Grant.Subject.GROUP and not config().jwt_groups_claim:
        found = Group.objects.filter(name=name).exists()
    elif grant.subject == Grant.Subject.TOKEN:
        # A user's own token is named user/name. Both parts may contain a slash.
        names = [name, *(name[at + 1 :] for at, sign in enumerate(name) if sign == "/")]
        found = AccessToken.objects.filter(name__in=names).exists()
    return (
        ""
        if found
        else f"There is no {grant.subject} {name} yet. The grant applies once it exists. Check the spelling of the name."
    )


def is_pattern(text: str) -> bool:
    """Return whether ``text`` is a valid pattern of addresses.

    Its room and channel are names with any number of ``*`` and ``{me}``. A room alone means all of its channels.
    """
    room, colon, channel = text.replace(ME, "x").partition(":")
    of_channel = is_client_id if room == INBOX_ROOM else is_name
    # A ``*`` beside ``{me}`` would match other clients too: user-7* also matches user-70.
    alone = f"{ME}{WHOLE}" not in text and f"{WHOLE}{ME}" not in text
    return (
        alone
        and len(text) <= 130
        and is_name(room.replace(WHOLE, "") or bool(room) * "x")
        and (not colon or of_channel(channel.replace(WHOLE, "") or bool(channel) * "x"))
    )


def create(actor: Actor, values: dict[str, Any], *, door: str) -> Grant:
    """Add a rule. Admins only; raises ``BusError`` FORBIDDEN or VALIDATION_ERROR."""
    _require_admin(actor)
    values = _written({"subject_name": "", "allow": True, **values})
    check(values)
    with transaction.atomic():
        grant = Grant.objects.create(**{field: values[field] for field in FIELDS}, created_by=actor.name[:150])
        audit.record(actor, door, "create_grant", str(grant), id=grant.pk)
    return grant


def update(actor: Actor, grant: Grant, changes: dict[str, Any], *, door: str) -> Grant:
    """Change a rule. Admins only; raises ``BusError`` FORBIDDEN or VALIDATION_ERROR."""
    _require_admin(actor)
    with transaction.atomic():
        before = str(Grant.objects.get(pk=grant.pk))
        values = _written({field: changes.get(field, getattr(grant, field)) for field in FIELDS})
        check(values)
        for field, value in values.items():
            setattr(grant, field, value)
        grant.save(update_fields=FIELDS)
        audit.record(actor, door, "update_grant", str(grant), id=grant.pk, before=before)
    return grant


def delete(actor: Actor, grant: Grant, *, door: str) -> None:
    """Remove a rule. Admins only; raises ``BusError`` FORBIDDEN."""
    _require_admin(actor)
    with transaction.atomic():
        audit.record(actor, door, "delete_grant", str(grant), id=grant.pk)
        grant.delete()


def _written(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with a user's name as Django normalizes it: a ban of ``ﬁona`` is a ban of ``fiona``."""
    if values["subject"] != Grant.Subject.USER:
        return values
    return {**values, "subject_name": get_user_model().normalize_username(values["subject_name"])}


def _require_admin(actor: Actor) -> None:
    if not actor.manages:
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may change grants.")
