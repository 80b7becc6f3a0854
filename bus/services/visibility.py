"""Database filters for the channels and rooms that an actor may see, so that lists skip most hidden rows.

A filter lets too many rows through rather than too few. ``permissions.can`` decides for every row afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.db.models import Q

from ..auth.permissions import HISTORY, JOIN, ME, Actor, Rule, can, table
from ..conf.settings import config
from ..protocol.names import whole_room

#: With more rules than this, a filter of all of them would cost more than it saves.
MOST_RULES = 50

EVERYTHING, NOTHING = Q(), Q(pk__in=())


def rules_of(actor: Actor, actions: Sequence[str]) -> list[Rule]:
    """Return the rules about one of the actions that concern, or might concern, ``actor``."""
    wanted = {*actions, "*"}
    return [rule for rule in table().rules() if rule.action in wanted and rule.concerns(actor)]


def may_look(actor: Actor, actions: Sequence[str]) -> tuple[str, ...]:
    """Return the actions that the scopes of the actor's token allow."""
    return tuple(action for action in actions if actor.scopes is None or action in actor.scopes)


def channels_for(actor: Actor, actions: Sequence[str] = (JOIN, HISTORY), *, prefix: str = "") -> Q:
    """Return a filter for channels where ``actor`` may do one of the actions. It may match more channels.

    ``prefix`` is the lookup that leads to the channel, such as ``channel__``.
    """
    return _filter(actor, actions, f"{prefix}room__", f"{prefix}name")


def rooms_for(actor: Actor, actions: Sequence[str] = (JOIN, HISTORY)) -> Q:
    """Return a filter for rooms where ``actor`` may do one of the actions. It may match more rooms.

    A right in one channel of a room is enough.
    """
    return _filter(actor, actions, "", "")


def by_room(actor: Actor, actions: Sequence[str] = (JOIN, HISTORY)) -> bool:
    """Return whether the permissions of ``actor`` are the same in all channels of a room."""
    return actor.admin or all(_parts(rule, actor)[1] == "*" for rule in rules_of(actor, actions))


def sees_room(actor: Actor, room: str, *, private: bool) -> bool:
    """Return whether ``actor`` may see a room by permissions that hold for the whole room."""
    return any(can(actor, action, whole_room(room), private=private) for action in (JOIN, HISTORY))


def _filter(actor: Actor, actions: Sequence[str], room: str, channel: str) -> Q:
    actions = may_look(actor, actions)
    if not actions:
        return NOTHING
    if actor.admin:
        return EVERYTHING
    own = Q(**{f"{room}name": config().system_room})
    found = Q(**{f"{room}private": False}) & ~own
    if settings.DEBUG:
        found |= own
    allowed = {_parts(rule, actor) for rule in rules_of(actor, actions) if rule.allow}
    if len(allowed) > MOST_RULES:
        return EVERYTHING
    for room_pattern, name_pattern in allowed:
        fits = _fits(f"{room}name", room_pattern)
        found |= fits & _fits(channel, name_pattern) if channel else fits
    return found


def _parts(rule: Rule, actor: Actor) -> tuple[str, str]:
    """Return the patterns of a rule for the room's name and the channel's name. An address has one colon."""
    pattern = rule.pattern
    if ME in pattern:
        # No client has the empty name, so without a name of its own the actor matches nothing.
        pattern = pattern.replace(ME, actor.own_name)
    room, _, name = pattern.partition(":")
    return room, name or "*"


def _fits(field: str, pattern: str) -> Q:
    first, *others = pattern.split("*")
    if not others:
        return Q(**{field: first})
    found = EVERYTHING
    if first:
        found &= Q(**{f"{field}__startswith": first})
    *between, last = others
    if last:
        found &= Q(**{f"{field}__endswith": last})
    for text in between:
        if text:
            found &= Q(**{f"{field}__contains": text})
    # The pattern matches any text. Django would drop an empty filter from an "or" instead of letting every row through.
    return found if found != EVERYTHING else Q(**{f"{field}__isnull": False})
