"""The compiled path of a connection's usual messages: which connections have one, what it learns, and what it hands over.

The lane (``bus/_speed/lane.c``) decides nothing itself. It looks where Python looks, in what Python has remembered: the rights of
the connection, the known channels, the ids that passed. What makes Python forget makes the lane forget.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from .._speed import core
from ..auth.permissions import PUBLISH
from ..directory.channels import ChannelRef
from ..log import Entry
from ..log.passed import REMEMBERED
from ..node import Node
from ..node.runtime import Traffic
from ..notify.messages import EphemeralFrame, EphemeralPublished
from ..protocol import frames
from ..protocol.inbound import Inbound
from ..protocol.names import EVERYONE, Address
from ..protocol.session import Session
from ..protocol.state import State
from ..protocol.usual import read
from ..publishing.entry import Uids
from ..realtime.reader import Lane
from .connection import Connection
from .failures import failed


def lane_of(connection: Connection) -> Lane | None:
    """Return the lane of a new connection. None without the extension, or for a socket with a grammar of its own."""
    node = connection.node
    # Where the way of each message is logged, Python serves each of them.
    if core is None or node.traces or connection.grammar is not read:
        return None
    limits = connection.session.limits
    if node.road is None:
        node.road = _road(node)
    connection.lane = core.Lane(
        node.road, connection.client, connection.session, connection, limits.frame_bytes, limits.depth
    )
    lane: Lane = connection.lane
    return lane


def _road(node: Node) -> object:
    """Return what the lanes of a node share: the objects in which they look, and those that they fill."""
    assert core is not None
    core.know(session=Session, traffic=Traffic, uids=Uids)
    passed, delivered = node.announcer._passed, node.announcer._delivered
    return core.Road(
        traffic=node.traffic,
        rules=node.permissions.rules,
        channels=node.channels._refs,
        streams=node.hub.streams,
        hub=node.hub,
        broker=node.broker,
        announcer=node.announcer,
        passed=passed._channels,
        passed_lock=passed._lock,
        delivered=delivered._channels,
        delivered_lock=delivered._lock,
        remembered=REMEMBERED,
        registered=State.REGISTERED,
        monotonic=time.monotonic,
        new_uid=node.publisher.new_uid,
        hand_over=hand_over,
        head_start=_head("event", EVERYONE, "")[0],
        ack_start=_ack(EVERYONE)[0],
    )


def _head(kind: str, address: Address, sender: str) -> list[bytes]:
    """Return the head of a message before and after its quoted id."""
    return frames.message_head("", kind, address, sender).split(b'""', 1)


def _ack(address: Address) -> list[bytes]:
    """Return the ack of an ephemeral message before and after the id of its request."""
    return frames.ack(None, address, None).split(b"null", 1)


def teach(connection: Connection, inbound: Inbound, ref: ChannelRef) -> None:
    """Let the lane of a connection serve messages like ``inbound``, which was just published to ``ref``."""
    if ref.gated or ref.work is not None or ref.address.is_inbox:
        return
    client = connection.client
    kind, address = inbound.type, ref.address
    # A frame cannot contain a NUL, so the three parts of the key cannot be mistaken for one another.
    key = f"{kind}\0{inbound.room or ''}\0{inbound.channel or ''}".encode("utf-8", "surrogatepass")
    connection.lane.learn(
        key,
        (
            kind,
            ref,
            ref.id,
            address,
            (PUBLISH, ref.id),
            client.owner,
            _head(kind, address, client.client_id)[1],
            _ack(address)[1],
            ref.ephemeral,
        ),
    )


def hand_over(
    connection: Connection,
    entries: Sequence[Entry] | None,
    notices: Sequence[tuple[int, bytes, str | None]] | None,
) -> None:
    """Take over what a lane has served: ``entries`` for the log, and ``notices`` of ephemeral messages to other processes."""
    node = connection.node
    try:
        if entries:
            for entry, problem in node.log.append_all(entries):
                failed(connection, problem, entry.request_id)
        if notices:
            told = [EphemeralFrame(channel_id, frame, key or "") for channel_id, frame, key in notices]
            node.broker.send(EphemeralPublished(told))
    except Exception as problem:  # noqa: BLE001 - sent to the client, or logged
        failed(connection, problem, None)
