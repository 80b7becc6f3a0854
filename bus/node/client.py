"""The state of one client of this process, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..auth.permissions import Actor
from ..conf.settings import default_address
from ..directory.channels import ChannelRef
from ..protocol.names import Address
from ..protocol.state import Lifecycle
from ..realtime.writer import Writer

_NOTHING: Mapping[str, Any] = {}
_NONE: frozenset[str] = frozenset()


class ClientState(Lifecycle):
    """The state of one connection: identity, initial room and channel, memberships and its writer."""

    __slots__ = (
        "__weakref__",
        "active_at",
        "actor",
        "allowed",
        "avatar",
        "client_id",
        "client_type",
        "close_code",
        "connected_at",
        "connection_id",
        "drop",
        "inbox_floor",
        "inbox_id",
        "initial",
        "kind",
        "memberships",
        "noted",
        "order",
        "peer_address",
        "personality",
        "received",
        "replays",
        "resume_token",
        "rooms",
        "rules_version",
        "screen_name",
        "touched",
        "writer",
    )  # fmt: skip

    def __init__(self, connection_id: str, actor: Actor, *, kind: str = "bus", peer_address: str = "") -> None:
        super().__init__()
        self.connection_id = connection_id
        self.actor = actor
        self.kind = kind
        self.peer_address = peer_address
        self.client_id = ""
        self.client_type = "app"
        self.screen_name: str | None = None
        self.avatar: str | None = None
        self.personality: Mapping[str, Any] = _NOTHING
        self.initial: Address = default_address()
        # Logs that it catches up with, each with whatever tells its replay from an earlier one; taken out, the replay ends.
        self.replays: dict[int, object] = {}
        self.resume_token = ""
        #: Of two connections of one client the one with the larger order has its id (``services.claims``).
        self.order: tuple[int, int] = (0, 0)
        self.memberships: dict[int, ChannelRef] = {}
        #: Channels of each room that it is a member of; the room's own log is heard while there is one.
        self.rooms: dict[str, int] = {}
        # Its inbox: 0 while nobody ever wrote to it, and the seq behind which it is its own.
        self.inbox_id = 0
        self.inbox_floor = 0
        self.connected_at = self.active_at = datetime.now(UTC)
        self.touched = False
        self.received = 0
        # What it did in the last second, and so is not announced again.
        self.noted: set[str] | frozenset[str] = _NONE
        # Answers of the permission table that are good while its version stays.
        self.allowed: dict[tuple[str, int], bool] = {}
        self.rules_version = -1
        self.close_code: int | None = None
        self.writer: Writer
        #: Ends the connection: called with a close code and an error (``bus.sockets.connection``).
        self.drop: Any = None

    @property
    def owner(self) -> str:
        """Whom its messages count for while they wait for the log: its principal, or the address of a stranger."""
        return self.actor.principal or self.peer_address

    def last_active(self) -> datetime:
        """When the client last sent something, to the precision of a heartbeat: the clock is not read for each frame."""
        if self.touched:
            self.touched = False
            self.active_at = datetime.now(UTC)
        return self.active_at

    def card(self) -> dict[str, Any]:
        """What others may know of the client."""
        return {
            "client_id": self.client_id,
            "client_type": self.client_type,
            "screen_name": self.screen_name,
            "avatar": self.avatar,
        }


class Clients:
    """The clients of this process: all connections, and those of them that have registered."""

    __slots__ = ("by_connection", "by_id")

    def __init__(self) -> None:
        #: Every connection by its connection id, registered or not.
        self.by_connection: dict[str, ClientState] = {}
        #: The registered clients by client id.
        self.by_id: dict[str, ClientState] = {}

    def forget_permissions(self) -> None:
        """Drop what each connection remembers of the permission table's answers."""
        for client in self.by_connection.values():
            client.allowed.clear()
