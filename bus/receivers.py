"""Signal receivers that notify the running processes of changes through models (the admin, a shell, any Django code)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.utils import timezone

from .auth.identity import session_model, session_subject
from .auth.permissions import table
from .db import inheritance as family
from .models import AccessToken, Channel, Grant, Room
from .notify import dispatch
from .notify import messages as notifications
from .services import rights as access


def connect() -> None:
    """Connect the receivers. The app calls this when it is ready."""
    user_model = get_user_model()
    for model, receiver in (
        (Grant, _grant_changed),
        (AccessToken, _token_changed),
        (user_model, _user_changed),
        (Group, _group_changed),
    ):
        # A project may save its users through proxies and child models.
        family.listen(post_save, receiver, model, f"arqonbus.{model.__name__}.save")
        family.listen(post_delete, receiver, model, f"arqonbus.{model.__name__}.delete")
    for field in ("groups", "user_permissions"):
        if hasattr(user_model, field):
            through = getattr(user_model, field).through
            m2m_changed.connect(_membership_changed, sender=through, dispatch_uid=f"arqonbus.user.{field}")
    m2m_changed.connect(_rights_changed, sender=Group.permissions.through, dispatch_uid="arqonbus.group.permissions")
    user_logged_out.connect(_logged_out, dispatch_uid="arqonbus.logged_out")
    if sessions := session_model():
        family.listen(post_delete, _session_deleted, sessions, "arqonbus.session.delete")
    post_save.connect(_room_changed, sender=Room, dispatch_uid="arqonbus.room")
    post_save.connect(_channel_changed, sender=Channel, dispatch_uid="arqonbus.channel")


def _only(update_fields: Any, harmless: str) -> bool:
    return update_fields is not None and set(update_fields) <= {harmless}


def _grant_changed(using: str, raw: bool = False, **_: Any) -> None:
    table().changed(using)
    if not raw:
        access.changed(access.RULES)


def _token_changed(
    instance: AccessToken, created: bool = False, raw: bool = False, update_fields: Any = None, **_: Any
) -> None:
    # A new token has no connections yet.
    if not (raw or created or _only(update_fields, "last_used_at")):
        access.changed(f"token:{instance.pk}")


def _user_changed(instance: Any, created: bool = False, raw: bool = False, update_fields: Any = None, **_: Any) -> None:
    if not (raw or created or _only(update_fields, "last_login")):
        access.changed(f"user:{family.key_in(instance, get_user_model())}")


def _group_changed(created: bool = False, raw: bool = False, **_: Any) -> None:
    if not (raw or created):
        access.changed(access.EVERYONE)


def _membership_changed(instance: Any, action: str, reverse: bool, **_: Any) -> None:
    if action.startswith("post_"):
        # `group.user_set.add(user)` changes the same relation from the group's side, for any number of users.
        access.changed(access.EVERYONE if reverse else f"user:{family.key_in(instance, get_user_model())}")


def _rights_changed(action: str, **_: Any) -> None:
    if action.startswith("post_"):
        access.changed(access.EVERYONE)


def _logged_out(request: Any, user: Any, **_: Any) -> None:
    session_key = getattr(getattr(request, "session", None), "session_key", None)
    if user is not None and session_key:
        access.changed(session_subject(session_key))


def _session_deleted(instance: Any, **_: Any) -> None:
    """Report a session that was deleted by hand. An expired session, or one without a user, has no connections."""
    if instance.expire_date > timezone.now() and "_auth_user_id" in instance.get_decoded():
        access.changed(session_subject(instance.session_key))


def _room_changed(instance: Room, created: bool, **_: Any) -> None:
    if not created:
        dispatch.notify_on_commit(notifications.ChannelChanged(instance.name, ""))
        # The room may be private now.
        access.changed(f"room:{instance.name}")


def _channel_changed(instance: Channel, created: bool, **_: Any) -> None:
    if not created:
        dispatch.notify_on_commit(notifications.ChannelChanged(instance.room.name, instance.name))
