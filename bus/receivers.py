"""Changes made through models (the admin, a shell) reach the running processes."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save

from . import broker
from .models import AccessToken, Channel, Grant, Room
from .permissions import table


def connect() -> None:
    """Connect the receivers; called when the app is ready."""
    for model in (Grant, AccessToken):
        post_save.connect(_rules_changed, sender=model, dispatch_uid=f"arqonbus.rules.{model.__name__}.save")
        post_delete.connect(_rules_changed, sender=model, dispatch_uid=f"arqonbus.rules.{model.__name__}.delete")
    post_save.connect(_room_changed, sender=Room, dispatch_uid="arqonbus.room")
    post_save.connect(_channel_changed, sender=Channel, dispatch_uid="arqonbus.channel")


def _rules_changed(**_: Any) -> None:
    table().forget()
    broker.ring_on_commit(broker.GrantsChanged())


def _room_changed(instance: Room, created: bool, **_: Any) -> None:
    if not created:
        broker.ring_on_commit(broker.Changed(instance.name, ""))


def _channel_changed(instance: Channel, created: bool, **_: Any) -> None:
    if not created:
        broker.ring_on_commit(broker.Changed(instance.room.name, instance.name))
