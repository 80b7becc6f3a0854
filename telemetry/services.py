"""Publishes telemetry: the events of clients, the events of the server, and the activity of clients.

An event goes through the bus's log and hub like any other message. So it reaches every process in order, and can be read as
history with the right to do so.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db import Error as DatabaseError

from bus.auth.permissions import PUBLISH, SYSTEM, Actor, table
from bus.directory.channels import ChannelRef
from bus.log import Entry
from bus.models import wire_time
from bus.node import Node, running
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.inbound import Inbound
from bus.protocol.names import SERVER, Address
from bus.publishing.django import publish_frames
from bus.sockets import activity
from bus.sockets.connection import Connection

from . import metrics, protocol

logger = logging.getLogger("arqonbus.telemetry")


def may_send(actor: Actor) -> bool:
    """Whether ``actor`` may send telemetry: every admitted client may, unless the scopes of its token or a rule forbid it.

    That is less than the right to publish to the stream's channel, where anything could be written.
    """
    if actor.scopes is not None and PUBLISH not in actor.scopes:
        return False
    return actor.admin or not any(
        not rule.allow and rule.covers(PUBLISH, protocol.stream(), actor) and rule.concerns(actor)
        for rule in table().loaded
    )


async def accept(connection: Connection, inbound: Inbound) -> None:
    """Publish a client's telemetry frame, and answer ``telemetry_ack`` once it is durable.

    Raises ``BusError`` FORBIDDEN, BUSY or UNAVAILABLE.
    """
    node, client = connection.node, connection.client
    if not may_send(client.actor):
        raise BusError(
            ErrorCode.FORBIDDEN, "You may not send telemetry.", [{"action": PUBLISH, "address": str(protocol.stream())}]
        )
    ref = await node.channels.resolve(protocol.stream(), SYSTEM)
    event_type = inbound.event_type or b'""'

    def done(entry: Entry) -> None:
        if entry.error is not None:
            connection.error(entry.error, entry.request_id)
            return
        metrics.events.labels("client").inc()
        connection.send(protocol.ack(entry.request_id, entry.uid, event_type, entry.seq, duplicate=entry.duplicate))

    node.publisher.publish(inbound, (ref,), client.client_id, done, exclude=client, owner=client.owner)
    if client.kind == "bus":
        activity.announce(node, client, "telemetry", protocol.stream())


def publish_event(event_type: str, payload: dict[str, Any]) -> None:
    """Publish an event of the server, from any thread of any process. Never raises: what it reports has happened already."""
    inbound = protocol.event(event_type, {"timestamp": _now(), **payload})
    try:
        here = running()
    except RuntimeError:
        pass  # Not in a loop.
    else:
        # A node that has stopped publishes nothing more.
        if here is not None:
            publish_from(here, protocol.stream(), inbound)
        return
    nodes: list[Node] = list(apps.get_app_config("bus").nodes)  # type: ignore[attr-defined]
    if nodes:
        try:
            nodes[0].runtime.loop.call_soon_threadsafe(publish_from, nodes[0], protocol.stream(), inbound)
        except RuntimeError:
            logger.debug("an event after the stop of the node")
        return
    # A process without a node of its own, such as a management command.
    try:
        publish_frames([inbound], actor=SYSTEM, initial=protocol.stream(), create=False)
    except (BusError, DatabaseError) as problem:
        _skip(problem)


def publish_from(node: Node, address: Address, inbound: Inbound) -> None:
    """Publish an event of the server at ``address``, from the node's loop."""
    ref = node.channels.known(address)
    if ref is None:
        node.runtime.spawn(_look_up_and_publish(node, address, inbound))
    else:
        _publish_to(node, ref, inbound)


def _publish_to(node: Node, ref: ChannelRef, inbound: Inbound) -> None:
    try:
        node.publisher.publish(inbound, (ref,), SERVER, lambda entry: _published(node, entry))
    except BusError as problem:
        _skip(problem)


def _published(node: Node, entry: Entry) -> None:
    if entry.error is not None:
        _skip(entry.error)
        return
    node.announcer.own += 1
    metrics.events.labels("server" if entry.context.address == protocol.stream() else "activity").inc()


async def _look_up_and_publish(node: Node, address: Address, inbound: Inbound) -> None:
    try:
        ref = await node.channels.resolve(address, SYSTEM)
    except BusError as problem:
        _skip(problem)
        return
    _publish_to(node, ref, inbound)


def publish_activity(node: Node, card: dict[str, Any], name: str, room: str, channel: str) -> None:
    """Publish that a client did something. The bus calls this at most once a second for each client and activity."""
    if metrics.meter(node).take(1.0, node.runtime.loop.time()):
        metrics.skipped.inc()
        return
    publish_from(node, protocol.dashboard(), protocol.activity(card, name, room, channel, _now()))


def _skip(problem: Exception) -> None:
    metrics.skipped.inc()
    logger.debug("an event was left out: %s", type(problem).__name__, extra={"event": "telemetry_skipped"})


def _now() -> str:
    return wire_time(datetime.now(UTC)) or ""
