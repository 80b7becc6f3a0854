"""The channels that a process has met: looked up (or made) once, and remembered until somebody says that they changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.db import Error as DatabaseError

from ..permissions import JOIN, Actor
from ..protocol.names import Address
from ..services import channels as channel_service
from ..services.channels import ChannelRef
from .threads import unavailable

#: Channels that are remembered; above that all are looked up anew.
REMEMBERED = 50_000


class Channels:
    """``write`` calls a service in the writing thread."""

    def __init__(self, write: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._refs: dict[Address, ChannelRef] = {}

    def known(self, address: Address) -> ChannelRef | None:
        """The channel, if this process has met it."""
        return self._refs.get(address)

    async def resolve(self, address: Address, actor: Actor, *, create: bool = True, action: str = JOIN) -> ChannelRef:
        """The channel at ``address``, made if it may be for ``action``.

        Raises ``BusError`` CHANNEL_NOT_FOUND, FORBIDDEN, LIMIT_REACHED, UNAVAILABLE.
        """
        ref = self._refs.get(address)
        return ref if ref is not None else (await self.ensure(address, actor, create=create, action=action))[0]

    async def ensure(
        self, address: Address, actor: Actor, *, create: bool = True, action: str = JOIN
    ) -> tuple[ChannelRef, bool]:
        """As :meth:`resolve`, and whether the channel was made by this call. Raises as that does."""
        ref = self._refs.get(address)
        if ref is not None:
            return ref, False
        try:
            ref, made = await self._write(lambda: channel_service.ensure(address, actor, create=create, action=action))
        except DatabaseError:
            raise unavailable() from None
        if len(self._refs) > REMEMBERED:
            self._refs.clear()
        self._refs[address] = ref
        return ref, made

    def forget(self, address: Address) -> None:
        """Look a channel up anew when it is needed next."""
        self._refs.pop(address, None)

    def forget_room(self, room: str) -> None:
        """As :meth:`forget`, for all channels of a room."""
        for address in [address for address in self._refs if address.room == room]:
            del self._refs[address]
