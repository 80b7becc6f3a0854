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

JOIN, PUBLISH, HISTORY, PRESENCE, MANAGE, DECIDE = "join", "publish", "history", "presence", "manage", "decide"
ACTIONS = (JOIN, PUBLISH, HISTORY, PRESENCE, MANAGE, DECIDE)

#: In a pattern: the caller, by its :attr:`Actor.own_name`.
ME = "{me}"


class Actor(msgspec.Struct, frozen=True):
    """The caller. ``principal`` owns client ids ("" for anonymous callers); ``scopes`` None means no restriction."""

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
    # The end of the identity in seconds since the epoch, for the expiry of tokens on open sockets.
    expires_at: float | None = None
    # The credential, such as "token:5" or "session:<digest>", so that its withdrawal can be noticed.
    credential: str = ""
    # Digest of the password behind a session. A change of the password ends the session.
    proof: str = ""
    # The text that the project's own function knows, to ask the function again. It stays in this process.
    bearer: str = ""
    # The connection comes from a page of another site, so it needs credentials.
    foreign: bool = False
    # The network address. Limits of anonymous clients count by it.
    address: str = ""

    @property
    def anonymous(self) -> bool:
        """Whether it has no proven identity."""
        return not self.principal

    @property
    def manages(self) -> bool:
        """Whether it administers the bus: an admin whose scopes include managing."""
        return self.admin and (self.scopes is None or MANAGE in self.scopes)

    @property
    def owner(self) -> str:
        """The owner of what the caller creates: its principal, or a digest of the address of an anonymous caller."""
        return self.principal or (f"address:{digest(holder_of(self.address))[:16]}" if self.address else "")

    @property
    def own_name(self) -> str:
        """The text for ``{me}`` in a pattern: the principal as a name, such as ``user-7``; empty without a principal."""
        # The part before the first hyphen is one of a few words, so two principals never have the same name.
        name = self.principal.replace(":", "-", 1)
        return name if is_name(name) else ""

    @property
    def role(self) -> Literal["admin", "user", "anonymous"]:
        """The role in the answer to a registration."""
        return "admin" if self.admin else ("anonymous" if self.anonymous else "user")


def checked(actor: object) -> Actor:
    """Return ``actor``. Raises ``TypeError`` for another object, such as a Django user."""
    if isinstance(actor, Actor):
        return actor
    raise TypeError(
        f"actor must be an Actor, and not {type(actor).__name__}. Use bus.auth.identity.from_user(user) for a Django user."
    )


SYSTEM = Actor(principal="system", name="arqonbus_server", client_id="arqonbus_server", admin=True, system=True)


class Rule(msgspec.Struct, frozen=True):
    """A :class:`~bus.models.Grant` in the form that is matched."""

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
        """Whether the rule is about this action of ``actor`` at ``address``."""
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
    """The texts between the ``*`` of a pattern. A room alone means the room with all its channels."""
    return tuple((pattern if ":" in pattern or pattern == "*" else f"{pattern}:*").split("*"))


def matches(pattern: str, address: str) -> bool:
    """Whether ``room:channel`` matches a pattern, in which ``*`` is any text.

    Each text between two stars is matched at its first occurrence, so many stars cost no more than few.
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

    Threads call :meth:`rules`, which queries after a change. The event loop uses :attr:`loaded`, which the node refreshes
    after a notification.
    """

    #: Seconds for which a process without a node, which receives no notifications, uses the rules that it read.
    BLIND = 1.0

    def __init__(self) -> None:
        self.loaded: tuple[Rule, ...] = ()
        #: Whether a rule hides presence from somebody, so that each notice is checked for each member.
        self.hides_presence = False
        #: Grows with each change of ``loaded``. Holders of derived answers compare it.
        self.version = 0
        # Number of known changes of the grants, now and at the query of the loaded rules.
        self._changes = 1
        self._known = 0
        self._read_at = 0.0
        self._lock = threading.Lock()
        # Database connections whose transaction changed grants. Others must not see the change before its commit.
        self._changing: WeakSet[BaseDatabaseWrapper] = WeakSet()

    def rules(self) -> tuple[Rule, ...]:
        """All rules. Queries the database after a change, or after a time in which a change may have gone unnoticed."""
        if self._changing:
            connection = connections[router.db_for_read(Grant)]
            if connection in self._changing:
                if connection.in_atomic_block:
                    return self._query()
                self._changing.discard(connection)  # It was rolled back.
        changes, now = self._changes, time.monotonic()
        if self._known != changes or (now - self._read_at > self.BLIND and not apps.get_app_config("bus").nodes):  # type: ignore[attr-defined]
            # Query without the lock: a thread that waits for the lock would hold a connection that its holder may wait for.
            rules = self._query()
            with self._lock:
                # Of two concurrent reads the later one may have begun before the last change.
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

    def fresh(self) -> tuple[Rule, ...]:
        """All rules as the database has them now, for an answer that must not be a moment old. Costs a query."""
        return self._query()

    def changed(self, using: str) -> None:
        """Note a change in the transaction of database ``using``, which sees it now. Others see it after the commit."""
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
        """Note that the grants changed. Later calls read them again."""
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

    The checks in their order: the scopes of a token bound it. Only the owner reads an inbox, and no admin does. Admins may do
    everything else. A rule that denies wins over rules that allow. Without a rule, public rooms allow everything but
    managing and deciding, private rooms allow nothing, and everybody may write to an inbox.
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
    if action in (MANAGE, DECIDE):
        return False
    if inbox:
        return True
    if address.room == config().system_room:
        # In development it is open for reading, so that a newcomer's console shows something.
        return settings.DEBUG and action != PUBLISH
    return not private


def require(actor: Actor, action: str, address: Address, *, private: bool, rules: Sequence[Rule] | None = None) -> None:
    """Raise ``BusError`` FORBIDDEN unless ``actor`` may, or CHANNEL_NOT_FOUND in a private room that it may not see."""
    rules = table().rules() if rules is None else rules
    if can(actor, action, address, private=private, rules=rules):
        return
    # A refused `manage` has one answer everywhere. Another answer would reveal which private rooms exist.
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
    """Raise ``BusError`` FORBIDDEN for messages of admins only: system messages, and messages to everybody."""
    if actor.admin:
        return
    if type == "system":
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may send system messages.")
    if address.room == WHOLE:
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may publish to everybody.")
