"""A client's appends to streamed messages: at once where the process knows the stream's channel, else after a look-up.

A client may send an opening with an ``id`` and its parts right behind it. So the connection remembers where a stream is from
the moment its opening is queued.
"""

from __future__ import annotations

from ..auth.permissions import PUBLISH, SYSTEM
from ..directory.channels import ChannelRef
from ..directory.streams import find_stream, stream_not_found
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Append, Inbound
from ..protocol.names import Address
from . import activity
from .connection import Connection

#: Streams whose channels one connection remembers. Others are looked up again.
REMEMBERED = 256


def remember(connection: Connection, inbound: Inbound, address: Address) -> None:
    """Note where a stream is that the client opens, if the client knows its id already.

    A stream that is known stays where it is: the log refuses its id in another channel.
    """
    if inbound.id and (uid := frames.message_uid(inbound.id)) not in connection.client.streams:
        _remember(connection, uid, address)


def append_at_once(connection: Connection, inbound: Inbound) -> bool:
    """Append to a stream in a channel that this process knows. False where the database has to be asked.

    Raises ``BusError`` STREAM_NOT_FOUND, FORBIDDEN, BUSY. The log finds the other faults, such as STREAM_GAP.
    """
    append: Append = inbound.append  # type: ignore[assignment] # the kind has one
    address = connection.client.streams.get(append.of)
    ref = connection.node.channels.known(address) if address is not None else None
    if ref is None:
        return False
    _append_to(connection, inbound, append, ref)
    return True


async def append(connection: Connection, inbound: Inbound) -> None:
    """Append where :func:`append_at_once` could not. Raises as that does, and UNAVAILABLE."""
    if append_at_once(connection, inbound):
        return
    node, client = connection.node, connection.client
    said: Append = inbound.append  # type: ignore[assignment] # the kind has one
    address = client.streams.get(said.of)
    if address is None:
        placed = await node.runtime.run(find_stream, client.actor, said.of)
        address = placed.ref.address
        if placed.state.client_id == client.client_id:
            _remember(connection, said.of, address)
    # Else the process forgot the channel. The stream's opening may not be committed yet, so the database may not know it.
    try:
        ref = await node.channels.resolve(address, SYSTEM, create=False)
    except BusError as problem:
        raise _as_of_a_stream(problem, said.of) from None
    _append_to(connection, inbound, said, ref)


def _append_to(connection: Connection, inbound: Inbound, append: Append, ref: ChannelRef) -> None:
    node, client = connection.node, connection.client
    try:
        node.permissions.check(client, PUBLISH, ref)
    except BusError as problem:
        raise _as_of_a_stream(problem, append.of) from None
    connection.publish(inbound, ref)
    if append.end is not None:
        client.streams.pop(append.of, None)
    if inbound.type not in client.noted:
        activity.announce(node, client, inbound.type, ref.address)


def _remember(connection: Connection, of: str, address: Address) -> None:
    streams = connection.client.streams
    if len(streams) >= REMEMBERED:
        del streams[next(iter(streams))]
    streams[of] = address


def _as_of_a_stream(problem: BusError, of: str) -> BusError:
    """A hidden channel gives the answer of a missing stream."""
    return stream_not_found(of) if problem.code == ErrorCode.CHANNEL_NOT_FOUND else problem
