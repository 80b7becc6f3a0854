"""Permissions: one function decides for the socket, REST, the admin and Django code."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Literal
from weakref import WeakSet

import msgspec
from django.apps import apps
from django.conf import settings
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..conf.settings import config
from ..models import Grant, digest
from ..protocol.errors import BusError, ErrorCode
from ..protocol.limits import holder_of
from ..protocol.names import INBOX_ROOM, WHOLE, Address, is_name
from ..protocol.routing import channel_not_found

JOIN, PUBLISH, HISTORY, PRESENCE, MANAGE = "join", "publish", "history", "presence", "manage"
ACTIONS = (JOIN, PUBLISH, HISTORY, PRESENCE, MANAGE)

#: In a pattern: whoever asks, by its :attr:`Actor.own_name`.
ME = "{me}"


class Actor(msgspec.Struct, frozen=True):
    """Who asks. ``principal`` owns client ids ("" for anonymous); ``scopes`` None means no restriction."""

    principal: str = ""
    name: str = "anonymous"
    client_id: str = ""
    client_type: str = ""
    admin: bool = False
    user: str = ""
    token: str = ""
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    system: bool = False
    # When the identity ends (seconds since the epoch), for the expiry of tokens on live sockets.
    expires_at: float | None = None
    # What proved it, such as "token:5" or "session:<digest>", so that a withdrawal can be noticed.
    credential: str = ""
    # Digest of what a session stands on (the password), which ends it when it changes.
    proof: str = ""
    # It comes from a page of another site, and has to show more than that to be let in.
    foreign: bool = False
    # The network address, by which anonymous clients are limited.
    address: str = ""

    @property
    def anonymous(self) -> bool:
        """Whether nobody vouches for it."""
        return not self.principal

    @property
    def manages(self) -> bool:
        """Whether it administers the bus: an admin whose token, if it came with one, is good for managing."""
        return self.admin and (self.scopes is None or MANAGE in self.scopes)

    @property
    def owner(self) -> str:
        """Who answers for what it brings into being: the principal, or where nobody vouches a digest of the address."""
        return self.principal or (f"address:{digest(holder_of(self.address))[:16]}" if self.address else "")

    @property
    def own_name(self) -> str:
        """What ``{me}`` in a pattern stands for: the principal as a name, such as ``user-7``; empty for who has none."""
        # The part before the first hyphen is one of a few words, so two principals never share a name.
        name = self.principal.replace(":", "-", 1)
        return name if is_name(name) else ""

    @property
    def role(self) -> Literal["admin", "user", "anonymous"]:
        """What the ``registered`` answer says."""
        return "admin" if self.admin else ("anonymous" if self.anonymous else "user")


SYSTEM = Actor(principal="system", name="arqonbus_server", client_id="arqonbus_server", admin=True, system=True)


class Rule(msgspec.Struct, frozen=True):
    """A :class:`~bus.models.Grant` as it is matched."""

    subject: str
    subject_name: str
    action: str
    pattern: str
    allow: bool

    def concerns(self, actor: Actor) -> bool:
        """Whether ``actor`` is its subject."""
        name = self.subject_name
        match self.subject:
            case "everyone":
                return True
            case "anonymous":
                return actor.anonymous
            case "identified":
                return not actor.anonymous
            case "user":
                return bool(name) and actor.user == name
            case "group":
                return name in actor.groups
            case "token":
                return bool(name) and actor.token == name
            case "client_type":
                return actor.client_type == name
        return False

    def covers(self, action: str, address: Address, actor: Actor) -> bool:
        """Whether it is about this action there, as far as ``actor`` goes."""
        if self.action not in (action, "*"):
            return False
        pattern = self.pattern
        if ME in pattern:
            name = actor.own_name
            if not name:
                return False
            pattern = pattern.replace(ME, name)
        return matches(pattern, str(address))


@lru_cache(maxsize=1024)
def _parts(pattern: str) -> tuple[str, ...]:
    """The texts between the ``*`` of a pattern; a room alone is the room with all it holds."""
    return tuple((pattern if ":" in pattern or pattern == "*" else f"{pattern}:*").split("*"))


def matches(pattern: str, address: str) -> bool:
    """Whether ``room:channel`` fits a pattern, in which ``*`` is any text.

    Each text between two stars is taken where it comes first, so a pattern of many stars costs no more than one of few.
    """
    first, *others = _parts(pattern)
    if not others:
        return address == first
    *between, last = others
    end = len(address) - len(last)
    if not address.startswith(first) or not address.endswith(last) or end < len(first):
        return False
    position = len(first)
    for text in between:
        found = address.find(text, position, end)
        if found < 0:
            return False
        position = found + len(text)
    return True


class RuleTable:
    """The grants as this process knows them.

    Threads read them with :meth:`rules`, which queries after a change; the event loop uses :attr:`loaded`, which the node
    brings up to date when a notification comes.
    """

    #: Seconds for which a process that runs no node, and so hears of no change, goes by what it has read.
    BLIND = 1.0

    def __init__(self) -> None:
        self.loaded: tuple[Rule, ...] = ()
        #: Whether a rule hides from somebody who is there, so that notices of presence have to be told one by one.
        self.hides_presence = False
        #: Grows with each change of ``loaded``, so that holders of derived answers know when to ask again.
        self.version = 0
        # How often the grants changed as far as we heard, and how often they had when what is loaded was queried.
        self._changes = 1
        self._known = 0
        self._read_at = 0.0
        self._lock = threading.Lock()
        # Connections to the database in whose transaction they changed; others are not to see that before it commits.
        self._changing: WeakSet[BaseDatabaseWrapper] = WeakSet()

    def rules(self) -> tuple[Rule, ...]:
        """All rules; a query when they were changed since, or might have been where nobody would tell."""
        if self._changing:
            connection = connections[router.db_for_read(Grant)]
            if connection in self._changing:
                if connection.in_atomic_block:
                    return self._query()
                self._changing.discard(connection)  # It was rolled back.
        changes, now = self._changes, time.monotonic()
        if self._known != changes or (now - self._read_at > self.BLIND and not apps.get_app_config("bus").nodes):  # type: ignore[attr-defined]
            # Without the lock: whoever waited for it would keep a connection that the one who has it may wait for.
            rules = self._query()
            with self._lock:
                # Of two that read at once the later may have begun before the last change.
                if changes >= self._known:
                    self.loaded, self._known, self._read_at = rules, changes, now
                    self.hides_presence = any(not r.allow and r.action in (PRESENCE, "*") for r in rules)
                    self.version += 1
            return rules
        return self.loaded

    @staticmethod
    def _query() -> tuple[Rule, ...]:
        rows = Grant.objects.values_list("subject", "subject_name", "action", "pattern", "allow")
        return tuple(Rule(*row) for row in rows)

    def changed(self, using: str) -> None:
        """The grants change in the current transaction of database ``using``, which sees it now; all others with its commit."""
        connection = connections[using]
        if connection.in_atomic_block:
            self._changing.add(connection)
            transaction.on_commit(partial(self._committed, connection), using=using)
        else:
            self.forget()

    def _committed(self, connection: BaseDatabaseWrapper) -> None:
        self._changing.discard(connection)
        self.forget()

    def forget(self) -> None:
        """The grants changed: what is asked from now on goes by what they are now."""
        with self._lock:
            self._changes += 1

    def refresh(self) -> None:
        """Read them again."""
        self.forget()
        self.rules()


def table() -> RuleTable:
    """This process's table, kept by the app's configuration."""
    rules: RuleTable = apps.get_app_config("bus").rules  # type: ignore[attr-defined]
    return rules


def can(actor: Actor, action: str, address: Address, *, private: bool, rules: Sequence[Rule] | None = None) -> bool:
    """Whether ``actor`` may do ``action`` (one of :data:`ACTIONS`) at ``address``; ``private`` is the room's flag.

    In order: a token's scopes bound what it may; an inbox is read by its owner alone, admins or not; admins may; a rule that
    denies wins over rules that allow; without a rule public rooms are open to all but managing, private ones to nobody, and
    an inbox may be written to.
    """
    if actor.scopes is not None and action not in actor.scopes:
        return False
    inbox = address.room == INBOX_ROOM
    if inbox and action in (JOIN, HISTORY, PRESENCE):
        return actor.system or (bool(actor.client_id) and address.channel == actor.client_id)
    if actor.admin:
        return True
    if address.is_everyone:
        return action in (JOIN, HISTORY)
    allowed: bool | None = None
    for rule in table().rules() if rules is None else rules:
        if rule.covers(action, address, actor) and rule.concerns(actor):
            if not rule.allow:
                return False
            allowed = True
    if allowed is not None:
        return allowed
    if action == MANAGE:
        return False
    if inbox:
        return True
    if address.room == config().system_room:
        # In development it is open to look at, so that a newcomer's page shows something.
        return settings.DEBUG and action != PUBLISH
    return not private


def require(actor: Actor, action: str, address: Address, *, private: bool, rules: Sequence[Rule] | None = None) -> None:
    """Raise ``BusError`` FORBIDDEN unless ``actor`` may; a private room is not there for those who may not see it."""
    rules = table().rules() if rules is None else rules
    if can(actor, action, address, private=private, rules=rules):
        return
    # Who may not manage is told so wherever it is: another answer here would tell which private rooms there are.
    if (
        private
        and action != MANAGE
        and not any(can(actor, seen, address, private=True, rules=rules) for seen in (JOIN, HISTORY))
    ):
        raise channel_not_found(address)
    raise BusError(
        ErrorCode.FORBIDDEN, f"You may not {action} in {address}.", [{"action": action, "address": str(address)}]
    )


def require_admin_for(actor: Actor, type: str, address: Address) -> None:
    """Raise ``BusError`` FORBIDDEN for what only admins may write, wherever: system messages, and anything to everybody."""
    if actor.admin:
        return
    if type == "system":
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may send system messages.")
    if address.room == WHOLE:
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may publish to everybody.")
