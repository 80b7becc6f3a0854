"""The channels that a process has met: looked up (or made) once, and remembered until somebody says that they changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.db import Error as DatabaseError

from ...auth.permissions import JOIN, SYSTEM, Actor, can, table
from ...directory import channels as directory
from ...directory.channels import ChannelRef
from ...protocol.errors import BusError, ErrorCode
from ...protocol.names import Address
from ...services import rooms as room_service
from ..threads import unavailable

#: Channels that are remembered; above that all are looked up anew.
REMEMBERED = 50_000


class Channels:
    """``write`` calls a service in the writing thread."""

    def __init__(self, write: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._refs: dict[Address, ChannelRef] = {}
        # What changed while somebody looks up: what is found may be older. Rooms, each with the number of its last change.
        self._looking = self._changes = 0
        self._changed: dict[str, int] = {}

    def known(self, address: Address) -> ChannelRef | None:
        """The channel, if this process remembers it. None says nothing of the channel: :meth:`resolve` asks the database."""
        return self._refs.get(address)

    async def resolve(self, address: Address, actor: Actor, *, create: bool = True, action: str = JOIN) -> ChannelRef:
        """The channel at ``address``, made if it may be for ``action``.

        Raises ``BusError`` CHANNEL_NOT_FOUND, FORBIDDEN, LIMIT_REACHED, UNAVAILABLE.
        """
        ref = self._open(address, actor, action)
        return ref if ref is not None else (await self.ensure(address, actor, create=create, action=action))[0]

    async def ensure(
        self, address: Address, actor: Actor, *, create: bool = True, action: str = JOIN
    ) -> tuple[ChannelRef, bool]:
        """As :meth:`resolve`, and whether the channel was made by this call. Raises as that does."""
        ref = self._open(address, actor, action)
        if ref is not None:
            return ref, False
        made_here = False
        self._looking += 1
        try:
            while True:
                before = self._changes
                ref, made = await self._write(lambda: directory.ensure(address, actor, create=create, action=action))
                made_here |= made
                if self._changed.get(address.room, 0) <= before:
                    break
        except DatabaseError:
            raise unavailable() from None
        finally:
            self._looking -= 1
            if not self._looking:
                self._changed.clear()
        if len(self._refs) > REMEMBERED:
            self._refs.clear()
        self._refs[address] = ref
        return ref, made_here

    def _open(self, address: Address, actor: Actor, action: str) -> ChannelRef | None:
        """What is remembered of a channel where ``actor`` may do ``action``.

        One that is hidden is asked for each time, as one that is not there: a quick refusal would tell that it is.
        """
        ref = self._refs.get(address)
        if ref is None or not ref.private:
            return ref
        return ref if can(actor, action, address, private=True, rules=table().loaded) else None

    async def is_private(self, address: Address) -> bool:
        """Whether its room is private, asked before something is told of it: also where nobody can say so now."""
        try:
            return (await self.resolve(address, SYSTEM, create=False)).private
        except BusError as problem:
            if problem.code == ErrorCode.UNAVAILABLE:
                return True
        except RuntimeError:  # The node has stopped, and its threads with it.
            return True
        try:
            private: bool = await self._write(room_service.is_private_room, address.room)
        except (DatabaseError, RuntimeError):
            return True
        return private

    def forget(self, address: Address) -> None:
        """Look a channel up anew when it is needed next, and if that is being done."""
        self._note(address.room)
        self._refs.pop(address, None)

    def forget_room(self, room: str) -> None:
        """As :meth:`forget`, for all channels of a room."""
        self._note(room)
        for address in [address for address in self._refs if address.room == room]:
            del self._refs[address]

    def _note(self, room: str) -> None:
        if self._looking:
            self._changes += 1
            self._changed[room] = self._changes
