"""The state of one client of this process, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ..auth.permissions import Actor
from ..conf.settings import default_address
from ..directory.channels import ChannelRef
from ..protocol.errors import BusError
from ..protocol.names import Address
from ..protocol.state import Lifecycle
from ..realtime.writer import Writer
from ..services.claims import Order
from ..services.marks import holder_of

_NO_ACTIVITY: frozenset[str] = frozenset()
_NO_CHANNELS: frozenset[int] = frozenset()


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
        "connection_id",
        "drop",
        "followed",
        "inbox_floor",
        "inbox_id",
        "initial",
        "kind",
        "marked",
        "memberships",
        "noted",
        "order",
        "peer_address",
        "replays",
        "resume_token",
        "rooms",
        "rules_version",
        "screen_name",
        "status",
        "streams",
        "told",
        "touched",
        "without_parts",
        "writer",
    )  # fmt: skip

    def __init__(self, connection_id: str, actor: Actor, *, kind: str = "bus", peer_address: str = "") -> None:
        super().__init__()
        self.connection_id = connection_id
        self.actor = actor
        self.kind = kind
        #: The network address of the remote end, through trusted proxies.
        self.peer_address = peer_address
        self.client_id = ""
        self.client_type = "app"
        self.screen_name: str | None = None
        self.avatar: str | None = None
        self.resume_token = ""
        #: Of two connections of one client, the one with the larger order has the client id (``services.ownership``).
        self.order: Order = (0, 0)
        self.initial: Address = default_address()
        #: The channels that it is a member of, by channel id.
        self.memberships: dict[int, ChannelRef] = {}
        #: The logs that it gets because it follows their rooms, by channel id (``clients.observers``).
        self.followed: dict[int, ChannelRef] = {}
        #: How many channels of each room it is a member of. Members also receive the log of the whole room.
        self.rooms: dict[str, int] = {}
        #: The logs that it catches up with, by channel id, each with the replay. A replay ends when it is taken out.
        self.replays: dict[int, object] = {}
        #: Where the streams are that it opened and has not ended, by the uid of the opening.
        self.streams: dict[str, Address] = {}
        #: The channels whose streamed messages it wants without their parts, by channel id.
        self.without_parts: frozenset[int] = _NO_CHANNELS
        #: What it was told as the owner of streams, by uid (``delivery.owners``).
        self.told: dict[str, set[int]] | None = None
        #: The channel id of its inbox; 0 before the first message in it.
        self.inbox_id = 0
        #: The seq up to which the messages of its inbox belong to an earlier client with the same id.
        self.inbox_floor = 0
        #: Whether it is anonymous and has a mark. A principal may have marks at any time.
        self.marked = False
        #: What it does now, as its members see it; None for nothing.
        self.status: dict[str, Any] | None = None
        self.active_at = datetime.now(UTC)
        #: Whether it sent anything since ``active_at``.
        self.touched = False
        # Its activities of the last second, which are not announced again.
        self.noted: set[str] | frozenset[str] = _NO_ACTIVITY
        # Answers of the permission table, good while the table has this version (``bus.node.permissions``).
        self.allowed: dict[tuple[str, int], bool] = {}
        self.rules_version = -1
        self.close_code: int | None = None
        self.writer: Writer
        #: Closes the connection with a close code and an error; set by its owner (``bus.sockets.connection``).
        self.drop: Callable[[int, BusError | None], None]

    @property
    def owner(self) -> str:
        """For whom its waiting messages count: its principal, or the network address of an anonymous client."""
        return self.actor.principal or self.peer_address

    @property
    def holder(self) -> str | None:
        """The holder of its marks. None for a client that surely has none."""
        if not self.actor.principal and not self.marked:
            return None
        return holder_of(self.actor.principal, self.client_id)

    def wants_parts(self, channel_id: int, room: str) -> bool:
        """Return whether it wants the parts of streamed messages in a log of ``room``.

        Of the log of the whole room it wants none where it wants none in all of its channels there.
        """
        without = self.without_parts
        if not without:
            return True
        if channel_id in self.memberships:
            return channel_id not in without
        if channel_id in self.followed:
            return True
        here = [ref.id for ref in self.memberships.values() if ref.address.room == room]
        return not here or any(ref_id not in without for ref_id in here)

    def want_parts(self, channel_id: int, *, wanted: bool) -> None:
        """Note whether it wants the parts of streamed messages in a channel."""
        others = self.without_parts - {channel_id}
        self.without_parts = others if wanted else others | {channel_id}

    def receives_as(self, channel_id: int) -> ChannelRef | None:
        """Return the channel that it is a member of, or gets because it follows the room. None for any other one."""
        return self.memberships.get(channel_id) or self.followed.get(channel_id)

    def is_member_of(self, ref: ChannelRef) -> bool:
        """Return whether it gets this log as a member, of the channel or of any channel of the room."""
        return ref.id in self.memberships or (ref.address.is_whole_room and ref.address.room in self.rooms)

    def last_active(self) -> datetime:
        """Return when the client last sent a frame, to the precision of a heartbeat. The clock is not read for each frame."""
        if self.touched:
            self.touched = False
            self.active_at = datetime.now(UTC)
        return self.active_at

    def card(self) -> dict[str, Any]:
        """Return what other clients may know of this one."""
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
