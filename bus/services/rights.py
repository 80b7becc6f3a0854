"""Changes of who may do what: each is a row, so that every process learns of it even when no notification reaches it.

Whoever changes a grant, a token, a user or a session says so with :func:`changed`; the receivers do it for what is changed
through models (``bus.receivers``). The nodes look for new rows (``bus.node.clients.rights``) and act on their connections.
"""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from ..auth.permissions import Actor
from ..models import AccessChange
from ..notify import dispatch
from ..notify import messages as notifications

#: Subjects besides principals ("user:3") and credentials ("token:5", "session:…"): the grants, or just everything.
RULES, EVERYONE = "rules", "everyone"

#: How far back rows are looked at again: a transaction that took its id early may commit late.
OVERLAP = 500
#: How long rows are kept; the end of a session is known by them for as long as a ticket of it could be good.
KEPT = timedelta(days=1)


def changed(subject: str) -> None:
    """Something about ``subject`` changed: with the caller's commit, every process looks at whom it concerns."""
    row = AccessChange.objects.create(subject=subject)
    dispatch.notify_on_commit(notifications.AccessChanged(subject, row.id))


def latest() -> int:
    """The id of the newest change, 0 for none."""
    return AccessChange.objects.order_by("-id").values_list("id", flat=True).first() or 0


def changes(after: int) -> list[tuple[int, str]]:
    """Changes with an id above ``after``, oldest first."""
    return list(AccessChange.objects.filter(id__gt=after).order_by("id").values_list("id", "subject"))


def forget_old() -> None:
    """Drop changes that every process has seen."""
    AccessChange.objects.filter(at__lt=timezone.now() - KEPT).delete()


def concerns(subject: str, actor: Actor) -> bool:
    """Whether a change of ``subject`` may matter to ``actor``."""
    return subject in (RULES, EVERYONE, actor.principal, actor.credential) or subject.startswith("room:")
