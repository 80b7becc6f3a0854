"""What somebody may know of, as a filter for the database: it leaves out what is surely hidden, so that no list walks over it.

The filter lets too much through rather than too little; ``permissions.can`` has the last word on every row.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.db.models import Q

from ..auth.permissions import HISTORY, JOIN, ME, Actor, Rule, can, table
from ..conf.settings import config
from ..protocol.names import whole_room

#: Rules from which on a filter of them all would cost more than it spares.
MOST_RULES = 50

EVERYTHING, NOTHING = Q(), Q(pk__in=())


def rules_of(actor: Actor, actions: Sequence[str]) -> list[Rule]:
    """The rules about one of the actions that concern ``actor``, or that might."""
    wanted = {*actions, "*"}
    return [rule for rule in table().rules() if rule.action in wanted and rule.concerns(actor)]


def may_look(actor: Actor, actions: Sequence[str]) -> tuple[str, ...]:
    """Those of the actions that a token's scopes leave."""
    return tuple(action for action in actions if actor.scopes is None or action in actor.scopes)


def channels_for(actor: Actor, actions: Sequence[str] = (JOIN, HISTORY), *, prefix: str = "") -> Q:
    """Channels where ``actor`` may do one of the actions, and some more. ``prefix`` leads to the channel (``channel__``)."""
    return _filter(actor, actions, f"{prefix}room__", f"{prefix}name")


def rooms_for(actor: Actor, actions: Sequence[str] = (JOIN, HISTORY)) -> Q:
    """Rooms where, or in a channel of which, ``actor`` may do one of the actions, and some more."""
    return _filter(actor, actions, "", "")


def by_room(actor: Actor, actions: Sequence[str] = (JOIN, HISTORY)) -> bool:
    """Whether what ``actor`` may is the same in all channels of a room."""
    return actor.admin or all(_parts(rule, actor)[1] == "*" for rule in rules_of(actor, actions))


def sees_room(actor: Actor, room: str, *, private: bool) -> bool:
    """Whether ``actor`` may know of a room by what holds for all of it."""
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
    """The patterns of a rule for the room's name and the channel's; an address has one colon."""
    pattern = rule.pattern
    if ME in pattern:
        # Nobody is called by the empty name.
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
    # Anything; a filter of nothing would be left out of an "or" instead of letting all through.
    return found if found != EVERYTHING else Q(**{f"{field}__isnull": False})
