"""What a process remembers of channels, while others change them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from bus.auth.permissions import SYSTEM
from bus.models import Channel, Room
from bus.node.delivery.channels import Channels
from bus.node.runtime import Args, Result
from bus.protocol.names import Address


@pytest.mark.django_db(transaction=True)
async def test_a_channel_that_changes_while_it_is_looked_up_is_looked_up_again(fresh_room: str) -> None:
    asked = 0

    async def write(look_up: Callable[[*Args], Result], /, *args: *Args) -> Result:
        nonlocal asked
        asked += 1
        found = await sync_to_async(look_up)(*args)
        if asked == 1:
            # Committed and told of between the query and the moment in which its answer is remembered.
            await Room.objects.filter(name=fresh_room).aupdate(private=True)
            channels.forget_room(fresh_room)
        elif asked == 2:
            await Channel.objects.filter(room__name=fresh_room).aupdate(ephemeral=True)
            channels.forget(address)
        return found

    channels = Channels(write)
    address = Address(fresh_room, "hall")
    ref, made = await channels.ensure(address, SYSTEM)
    assert (ref.private, ref.ephemeral, made, asked) == (True, True, True, 3)
    assert channels.known(address) == ref
    # Another one's changes make nobody look again.
    channels.forget(Address("elsewhere", "hall"))
    assert await channels.resolve(address, SYSTEM) == ref
    assert asked == 3
    await sync_to_async(connections.close_all)()
