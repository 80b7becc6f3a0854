"""The subscriptions of one client, and its place in each log that it receives."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .messages import INBOX_ROOM, WHOLE, Position

if TYPE_CHECKING:
    from .subscription import Subscription


def joinable(address: str) -> bool:
    """Return whether a client joins this address. Inboxes and whole-room logs need no join."""
    room, _, channel = address.partition(":")
    return room not in (INBOX_ROOM, WHOLE) and channel != WHOLE


def told(row: dict[str, Any], seq: int | None = None) -> Position:
    """Return the position of a log that the server sent. An empty epoch means that the epoch is unknown."""
    return Position(row["seq"] if seq is None else seq, row["epoch"] or None)


class Heard:
    """The logs that reach a client, and their subscriptions. Only :meth:`begin` sets the place of a log."""

    def __init__(self) -> None:
        #: Our place in each log, for the next registration. The logs in ``_live`` reach the client on this connection.
        self.logs: dict[str, Position] = {}
        self._live: set[str] = set()
        #: The last message of a log that this client does not get: pruned, or sent to the id's earlier owner.
        self._withheld: dict[str, int] = {}
        self.by_address: dict[str, weakref.WeakSet[Subscription]] = {}
        self.all: weakref.WeakSet[Subscription] = weakref.WeakSet()
        #: The subscriptions to whole rooms, by room.
        self.by_room: dict[str, weakref.WeakSet[Subscription]] = {}

    # --- subscriptions ------------------------------------------------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        """Add a subscription. From now on it receives every frame of its logs."""
        self.by_address.setdefault(subscription.address, weakref.WeakSet()).add(subscription)
        self.all.add(subscription)
        for address, at in self.logs.items():
            if address != subscription.address and address in self._live and subscription._wants(address):
                subscription._begin(address, at)

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription that ended. It receives nothing more, and needs no membership."""
        self.all.discard(subscription)
        self.listeners(subscription.address).discard(subscription)
        self.tidy(subscription.address)

    def tidy(self, address: str) -> None:
        """Forget an address without subscriptions."""
        if address in self.by_address and not self.by_address[address]:
            del self.by_address[address]

    def listeners(self, address: str) -> weakref.WeakSet[Subscription]:
        """Return the subscriptions of an address."""
        return self.by_address.get(address, weakref.WeakSet())

    def hearing(self, address: str) -> Iterable[Subscription]:
        """Return the subscriptions that receive a log. A room's log goes to all of its channels."""
        followers = self.followers(address) if self.by_room else ()
        if address.endswith(f":{WHOLE}"):
            return [*(subscription for subscription in self.all if subscription._wants(address)), *followers]
        return [*self.listeners(address), *followers]

    def followers(self, address: str) -> Iterable[Subscription]:
        """Return the subscriptions to the whole room of an address."""
        return list(self.by_room.get(address.partition(":")[0], ()))

    def fail(self, address: str, error: Exception) -> None:
        """End the subscriptions of an address with an error."""
        for subscription in list(self.listeners(address)):
            subscription._fail(error)
            self.remove(subscription)

    # --- places -------------------------------------------------------------------------------------------------------

    def begin(self, address: str, at: Position, *, lost: bool = False) -> None:
        """Set the place of a log to ``at``. ``lost`` means that messages between our place and ``at`` are gone.

        Subscriptions that followed another log, or missed a part of this one, also start at ``at`` and report the gap. The others
        keep their place and skip repeated messages.
        """
        before = self.logs.get(address)
        if before is not None and not lost:
            unheard = address not in self._live and before.seq != at.seq
            lost = unheard or _another(before, at)
        self.logs[address] = at
        self._live.add(address)
        for subscription in self.hearing(address):
            if lost:
                subscription._begin(address, at, gap=True)
            elif at.epoch:
                subscription._learn(address, at.epoch)

    def meet(self, address: str, at: Position) -> None:
        """Compare our place with the server's position of a log. It matters only for a new log or a missed one."""
        before = self.logs.get(address)
        if before is None or address not in self._live or _another(before, at):
            self.begin(address, at)

    def joined(self, address: str, result: dict[str, Any], since: Position | None, *, ours: bool) -> None:
        """Handle the answer to a join. ``ours`` means that ``since`` was our own place, not one of a new subscription."""
        if since is None:
            self.meet(address, told(result))
        else:
            lost = result.get("recovered") is False
            start = result["first_seq"] - 1 if lost else since.seq
            self.begin(address, told(result, start), lost=lost and ours)
        # The room's log arrives with the first of its channels.
        for log, row in result["positions"].items():
            if log != address:
                self.meet(log, told(row))

    def registered(self, channels: dict[str, dict[str, Any]], asked: dict[str, dict[str, Any]]) -> None:
        """Handle the answer to a registration. It names all logs that reach us."""
        self._live.clear()
        for address, row in channels.items():
            before = asked.get(address)
            lost = row.get("recovered") is False
            if lost:
                self._withheld[address] = row["first_seq"] - 1
            elif row.get("withheld"):
                self._withheld[address] = row["seq"]
            if before is None:
                self.begin(address, told(row))
            else:
                self.begin(address, told(row, row["first_seq"] - 1 if lost else before["seq"]), lost=lost)

    def positions(self, wanted: set[str]) -> dict[str, dict[str, Any]]:
        """Return the positions for a registration: of the channels that we want, of their rooms, and of the inbox."""
        rooms = {address.partition(":")[0] for address in wanted}
        return {
            address: {"epoch": at.epoch or "", "seq": at.seq}
            for address, at in self.logs.items()
            if address in wanted or (not joinable(address) and address.partition(":")[0] in (*rooms, INBOX_ROOM, WHOLE))
        }

    def came(self, address: str, seq: int) -> None:
        """Handle a message of a log."""
        at = self.logs.get(address)
        if at is None or seq > at.seq:
            self.logs[address] = Position(seq, at.epoch if at else None)
            self._live.add(address)

    def place(self, address: str, since: Position) -> tuple[Position, bool]:
        """Return where a subscription to a log without joins starts, and whether messages are lost.

        Nobody but the client can compare the positions of such a log.
        """
        at = self.logs.get(address)
        if at is None:
            return since, False
        another = since.seq > 0 and since.epoch is not None and since.epoch != at.epoch
        # The whole inbox reaches us, so no subscription can be further on.
        beyond = address.startswith(f"{INBOX_ROOM}:") and since.seq > at.seq
        if another or beyond:
            return Position(0, at.epoch), True
        return Position(since.seq, at.epoch), since.seq < self._withheld.get(address, 0)

    def forget(self, address: str, members: set[str]) -> None:
        """Forget the log of a channel that we left. With the last channel of a room, forget the room's log too."""
        self._drop(address)
        room = address.partition(":")[0]
        if not any(other.startswith(f"{room}:") for other in members):
            self._drop(f"{room}:{WHOLE}")

    def keep_only(self, wanted: set[str]) -> None:
        """Forget the places of logs that do not reach us and that no subscription needs."""
        rooms = {address.partition(":")[0] for address in wanted}
        for address in [address for address in self.logs if address not in self._live]:
            if not (address in wanted or (address.endswith(f":{WHOLE}") and address.partition(":")[0] in rooms)):
                self._drop(address)

    def _drop(self, address: str) -> None:
        self.logs.pop(address, None)
        self._live.discard(address)
        self._withheld.pop(address, None)


def _another(before: Position, at: Position) -> bool:
    """Return whether two positions are of different logs, as far as both epochs are known."""
    return bool(before.epoch and at.epoch and before.epoch != at.epoch)
