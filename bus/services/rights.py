"""Changes of permissions: each is a row, so that every process finds it even when it misses the notification.

Code that changes a grant, a token, a user or a session calls :func:`changed`. Receivers do so for changes through models
(``bus.receivers``). The nodes look for new rows and check their connections (``bus.node.clients.rights``).
"""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from ..auth.permissions import Actor
from ..models import AccessChange
from ..notify import dispatch
from ..notify import messages as notifications

#: Subjects besides principals ("user:3") and credentials ("token:5", "session:…"): the grants, or everything.
RULES, EVERYONE = "rules", "everyone"

#: How many rows before the newest are read again. A transaction that took its id early may commit late.
OVERLAP = 500
#: How long rows stay. A row that ends a session must stay for as long as a ticket of the session could be valid.
KEPT = timedelta(days=1)


def changed(subject: str) -> None:
    """Record a change of ``subject`` and notify every process with the caller's commit.

    Each process then checks the connections that the change concerns.
    """
    row = AccessChange.objects.create(subject=subject)
    dispatch.notify_on_commit(notifications.AccessChanged(subject, row.id))


def latest() -> int:
    """Return the id of the newest change, 0 for none."""
    return AccessChange.objects.order_by("-id").values_list("id", flat=True).first() or 0


def changes(after: int) -> list[tuple[int, str]]:
    """Return the changes with an id above ``after`` as pairs of id and subject, oldest first."""
    return list(AccessChange.objects.filter(id__gt=after).order_by("id").values_list("id", "subject"))


def forget_old() -> None:
    """Delete changes that every process has seen."""
    AccessChange.objects.filter(at__lt=timezone.now() - KEPT).delete()


def concerns(subject: str, actor: Actor) -> bool:
    """Return whether a change of ``subject`` may concern ``actor``."""
    return subject in (RULES, EVERYONE, actor.principal, actor.credential) or subject.startswith("room:")
