"""A client's amendments: the message is looked up, and the amendment is published to its channel."""

from __future__ import annotations

from ..auth.permissions import PUBLISH
from ..directory.channels import ChannelRef
from ..directory.messages import find_amended
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Amend, Amended, Inbound
from ..publishing.plan import place_of
from . import activity
from .connection import Connection


async def amend(connection: Connection, inbound: Inbound, said: Amend) -> None:
    """Publish an amendment to the channel that it names.

    Raises ``BusError`` MESSAGE_NOT_FOUND, FORBIDDEN, VALIDATION_ERROR, INVALID_NAME, CHANNEL_NOT_FOUND, BUSY, UNAVAILABLE. The
    log finds LIMIT_REACHED, and a delete that came first.
    """
    node, client = connection.node, connection.client
    address = place_of(inbound, client.actor, client.initial).address
    ref = await node.channels.resolve(address, client.actor, action=PUBLISH, create=False)
    node.permissions.check(client, PUBLISH, ref)
    inbound.amended = await _find(connection, ref, said)
    connection.publish(inbound, ref)
    if inbound.type not in client.noted:
        activity.announce(node, client, inbound.type, ref.address)


async def _find(connection: Connection, ref: ChannelRef, said: Amend) -> Amended:
    """Find the message. The client may have sent it right before, so the second look waits for the commits of this process."""
    runtime = connection.node.runtime
    try:
        return await runtime.run(find_amended, connection.client.actor, ref, said)
    except BusError as problem:
        if problem.code != ErrorCode.MESSAGE_NOT_FOUND:
            raise
    await connection.node.publisher.behind(ref.id)
    return await runtime.run_writer(find_amended, connection.client.actor, ref, said)
