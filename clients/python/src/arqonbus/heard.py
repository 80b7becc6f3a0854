"""What one client hears: its subscriptions, and how far each log came that reaches them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .messages import INBOX_ROOM, WHOLE, Position

if TYPE_CHECKING:
    from .subscription import Subscription


def joinable(address: str) -> bool:
    """Whether one becomes a member there; an inbox and a whole room's log come by themselves."""
    room, _, channel = address.partition(":")
    return room not in (INBOX_ROOM, WHOLE) and channel != WHOLE


def told(row: dict[str, Any], seq: int | None = None) -> Position:
    """Where the server says that a log stands, or ``seq`` of that log; an empty epoch is one that is not known."""
    return Position(row["seq"] if seq is None else seq, row["epoch"] or None)


class Heard:
    """The logs that reach a client, and who listens to them. :meth:`begin` alone sets the place of a log."""

    def __init__(self) -> None:
        #: How far each log came, for the next registration. Those of ``_live`` reach the client on this connection.
        self.logs: dict[str, Position] = {}
        self._live: set[str] = set()
        #: Up to where a log has messages that this client does not get: pruned ones, or letters of who had its id before.
        self._withheld: dict[str, int] = {}
        self.by_address: dict[str, weakref.WeakSet[Subscription]] = {}
        self.all: weakref.WeakSet[Subscription] = weakref.WeakSet()

    # --- subscriptions ------------------------------------------------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        """From now on every frame of its logs reaches it."""
        self.by_address.setdefault(subscription.address, weakref.WeakSet()).add(subscription)
        self.all.add(subscription)
        for address, at in self.logs.items():
            if address != subscription.address and address in self._live and subscription._wants(address):
                subscription._begin(address, at)

    def remove(self, subscription: Subscription) -> None:
        """It has ended, of itself or by an error: nothing reaches it any more, and nothing is joined for it."""
        self.all.discard(subscription)
        self.listeners(subscription.address).discard(subscription)
        self.tidy(subscription.address)

    def tidy(self, address: str) -> None:
        """Keep nothing of an address to which nobody listens."""
        if address in self.by_address and not self.by_address[address]:
            del self.by_address[address]

    def listeners(self, address: str) -> weakref.WeakSet[Subscription]:
        """The subscriptions of an address."""
        return self.by_address.get(address, weakref.WeakSet())

    def hearing(self, address: str) -> Iterable[Subscription]:
        """The subscriptions that a log's messages are for; those of a room's own log are for each of its channels."""
        if address.endswith(f":{WHOLE}"):
            return [subscription for subscription in self.all if subscription._wants(address)]
        return list(self.listeners(address))

    def fail(self, address: str, error: Exception) -> None:
        """An error ends the subscriptions of an address."""
        for subscription in list(self.listeners(address)):
            subscription._fail(error)
            self.remove(subscription)

    # --- places -------------------------------------------------------------------------------------------------------

    def begin(self, address: str, at: Position, *, lost: bool = False) -> None:
        """A log goes on after ``at``; ``lost``: what lies between our own place and that is gone.

        Subscriptions to which another log was known under this address, or that did not hear it for a while, begin there
        too, and tell the gap. The others keep their place: what is sent to them twice they leave out.
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
        """The server says where a log stands that reaches us: news only if it did not reach us, or is another one."""
        before = self.logs.get(address)
        if before is None or address not in self._live or _another(before, at):
            self.begin(address, at)

    def joined(self, address: str, result: dict[str, Any], since: Position | None, *, ours: bool) -> None:
        """The answer to a join; ``ours``: ``since`` is our own place, and not one that a new subscription asks for."""
        if since is None:
            self.meet(address, told(result))
        else:
            lost = result.get("recovered") is False
            start = result["first_seq"] - 1 if lost else since.seq
            self.begin(address, told(result, start), lost=lost and ours)
        # The room's own log comes with the first of its channels.
        for log, row in result["positions"].items():
            if log != address:
                self.meet(log, told(row))

    def registered(self, channels: dict[str, dict[str, Any]], asked: dict[str, dict[str, Any]]) -> None:
        """The answer to a registration: nothing reaches us but what it names."""
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
        """What a registration says of where we were: the channels that we want, their rooms' logs and the inbox."""
        rooms = {address.partition(":")[0] for address in wanted}
        return {
            address: {"epoch": at.epoch or "", "seq": at.seq}
            for address, at in self.logs.items()
            if address in wanted or (not joinable(address) and address.partition(":")[0] in (*rooms, INBOX_ROOM, WHOLE))
        }

    def came(self, address: str, seq: int) -> None:
        """A message of a log arrived."""
        at = self.logs.get(address)
        if at is None or seq > at.seq:
            self.logs[address] = Position(seq, at.epoch if at else None)
            self._live.add(address)

    def place(self, address: str, since: Position) -> tuple[Position, bool]:
        """Where a subscription begins that was at ``since`` in a log that comes by itself, and whether messages are lost.

        It is for logs that are not joined, where nobody but us can compare.
        """
        at = self.logs.get(address)
        if at is None:
            return since, False
        another = since.seq > 0 and since.epoch is not None and since.epoch != at.epoch
        # All of an inbox comes to us, so nobody can have been further on in it.
        beyond = address.startswith(f"{INBOX_ROOM}:") and since.seq > at.seq
        if another or beyond:
            return Position(0, at.epoch), True
        return Position(since.seq, at.epoch), since.seq < self._withheld.get(address, 0)

    def forget(self, address: str, members: set[str]) -> None:
        """A channel is left: its log comes no longer, nor with the room's last one of ``members`` the room's own."""
        self._drop(address)
        room = address.partition(":")[0]
        if not any(other.startswith(f"{room}:") for other in members):
            self._drop(f"{room}:{WHOLE}")

    def keep_only(self, wanted: set[str]) -> None:
        """Forget the places of logs that do not reach us and that nobody wants back: neither a channel nor one of its room."""
        rooms = {address.partition(":")[0] for address in wanted}
        for address in [address for address in self.logs if address not in self._live]:
            if not (address in wanted or (address.endswith(f":{WHOLE}") and address.partition(":")[0] in rooms)):
                self._drop(address)

    def _drop(self, address: str) -> None:
        self.logs.pop(address, None)
        self._live.discard(address)
        self._withheld.pop(address, None)


def _another(before: Position, at: Position) -> bool:
    """Whether two positions are of different logs, as far as both are known."""
    return bool(before.epoch and at.epoch and before.epoch != at.epoch)
