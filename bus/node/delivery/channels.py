"""The channels that this process knows: each is looked up or made once, and remembered until it changes."""

from __future__ import annotations

from django.db import Error as DatabaseError

from ...auth.permissions import JOIN, SYSTEM, Actor, can, table
from ...directory import channels as directory
from ...directory.channels import ChannelRef
from ...protocol.errors import BusError, ErrorCode
from ...protocol.names import WHOLE, Address
from ...services import rooms as room_service
from ..runtime import Run
from ..threads import unavailable

#: Channels that are remembered. Above that all of them are looked up anew.
REMEMBERED = 50_000


class Channels:
    """Finds channels by address. ``run_writer`` calls a service in the writing thread."""

    def __init__(self, run_writer: Run) -> None:
        self._run_writer = run_writer
        self._refs: dict[Address, ChannelRef] = {}
        # Changes during a look-up, whose answer may be older: each room with the number of its last change.
        self._lookups = self._changes = 0
        self._changed: dict[str, int] = {}

    def known(self, address: Address) -> ChannelRef | None:
        """Return the channel if this process remembers it. None may also mean a channel that :meth:`resolve` would find."""
        return self._refs.get(address)

    async def resolve(self, address: Address, actor: Actor, *, create: bool = True, action: str = JOIN) -> ChannelRef:
        """Return the channel at ``address``. It is made if ``create`` and if ``actor`` may make it for ``action``.

        Raises ``BusError`` CHANNEL_NOT_FOUND, FORBIDDEN, LIMIT_REACHED, UNAVAILABLE.
        """
        ref = self._remembered(address, actor, action)
        return ref if ref is not None else (await self.ensure(address, actor, create=create, action=action))[0]

    async def ensure(
        self, address: Address, actor: Actor, *, create: bool = True, action: str = JOIN
    ) -> tuple[ChannelRef, bool]:
        """As :meth:`resolve`, and return as well whether this call made the channel."""
        ref = self._remembered(address, actor, action)
        if ref is not None:
            return ref, False
        made_here = False
        self._lookups += 1
        try:
            while True:
                before = self._changes
                found, made = await self._run_writer(self._look_up, address, actor, create, action)
                made_here |= made
                if self._changed.get(address.room, 0) <= before:
                    break
        except DatabaseError:
            raise unavailable() from None
        finally:
            self._lookups -= 1
            if not self._lookups:
                self._changed.clear()
        if len(self._refs) > REMEMBERED:
            self._refs.clear()
        self._refs[address] = found
        return found, made_here

    def _look_up(self, address: Address, actor: Actor, create: bool, action: str) -> tuple[ChannelRef, bool]:
        """Find or make a channel, in the writing thread. A thousand clients that come at once ask the database once."""
        ref = self._remembered(address, actor, action)
        return (ref, False) if ref is not None else directory.ensure(address, actor, create=create, action=action)

    def _remembered(self, address: Address, actor: Actor, action: str) -> ChannelRef | None:
        """Return a remembered channel where ``actor`` may do ``action``.

        A hidden channel is looked up each time, as an absent one is. A quicker refusal would reveal that it exists.
        """
        ref = self._refs.get(address)
        if ref is None or not ref.private:
            return ref
        return ref if can(actor, action, address, private=True, rules=table().loaded) else None

    async def is_private(self, address: Address) -> bool:
        """Return whether the room of ``address`` is private. Without an answer of the database it counts as private."""
        try:
            return (await self.resolve(address, SYSTEM, create=False)).private
        except BusError as problem:
            if problem.code == ErrorCode.UNAVAILABLE:
                return True
        except RuntimeError:  # The node and its threads have stopped.
            return True
        try:
            return await self._run_writer(room_service.is_private_room, address.room)
        except (DatabaseError, RuntimeError):
            return True

    async def room_log(self, ref: ChannelRef) -> ChannelRef:
        """Return the log of the whole room, which the members of each of its channels receive. Raises as :meth:`resolve`."""
        return await self.resolve(Address(ref.address.room, WHOLE), SYSTEM)

    def forget(self, address: Address) -> None:
        """Look the channel up again when it is needed next. A look-up that runs now is repeated."""
        self._note_change(address.room)
        self._refs.pop(address, None)

    def forget_room(self, room: str) -> None:
        """As :meth:`forget`, for every channel of the room."""
        self._note_change(room)
        for address in [address for address in self._refs if address.room == room]:
            del self._refs[address]

    def _note_change(self, room: str) -> None:
        if self._lookups:
            self._changes += 1
            self._changed[room] = self._changes
