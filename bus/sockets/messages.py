"""A client's messages on their way to ``bus.publishing``: at once where the process knows the channel, else after a look-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..auth.permissions import PUBLISH, SYSTEM
from ..directory import clients as client_directory
from ..directory.channels import ChannelRef
from ..log import Entry
from ..node import ClientState, Node
from ..protocol.errors import BusError, target_not_found
from ..protocol.inbound import Inbound
from ..protocol.names import Address, inbox
from ..protocol.routing import Route
from ..publishing.announce import Answer
from ..publishing.plan import INBOXES, Plan, route


class Sender(Protocol):
    """What is asked of the connection that a message came from."""

    @property
    def node(self) -> Node:
        """The process's node."""
        ...

    @property
    def client(self) -> ClientState:
        """Who it is."""
        ...

    def send(self, frame: bytes) -> None:
        """Hand over a frame."""
        ...

    def error(self, problem: BusError, request_id: str | None) -> None:
        """Hand over an error."""
        ...

    def refuse(self, entry: Entry) -> None:
        """Tell what came of a message, if it was refused."""
        ...

    def acknowledge(self, entry: Entry) -> None:
        """Tell what came of a message."""
        ...

    def active(self, activity: str, address: Address | None = None) -> None:
        """Note that the client did something."""
        ...

    def trace(self, kind: str, address: Address) -> None:
        """Log the way of one message."""
        ...


def publish_at_once(sender: Sender, inbound: Inbound) -> bool:
    """Publish to a channel that this process knows. False when that takes a look at the database or several logs.

    Raises ``BusError`` INVALID_NAME, VALIDATION_ERROR, FORBIDDEN, BUSY.
    """
    node, client = sender.node, sender.client
    planned = inbound.route or route(inbound, client.actor, client.initial)
    if planned.targets is None:
        ref = node.channels.known(planned.address)
        # What is hidden is refused after the same look as what is not there.
        if ref is not None and (not ref.private or node.permissions.may(client, PUBLISH, ref)):
            _publish_to(sender, inbound, ref)
            return True
    inbound.route = planned
    return False


async def publish(sender: Sender, inbound: Inbound) -> None:
    """Publish where :func:`publish_at_once` could not: a private message, or a channel that has to be found or made.

    Raises ``BusError`` as that does, and CHANNEL_NOT_FOUND, TARGET_NOT_FOUND, LIMIT_REACHED, UNAVAILABLE.
    """
    if publish_at_once(sender, inbound):
        return
    planned: Route = inbound.route  # type: ignore[assignment] # publish_at_once left it there
    if planned.targets is not None:
        await _publish_private(sender, inbound, planned.targets)
        return
    ref = await sender.node.channels.resolve(planned.address, sender.client.actor, action=PUBLISH)
    _publish_to(sender, inbound, ref)


def _publish_to(sender: Sender, inbound: Inbound, ref: ChannelRef) -> None:
    node, client = sender.node, sender.client
    node.permissions.check(client, PUBLISH, ref)
    node.publisher.publish(
        inbound,
        (ref,),
        client.client_id,
        sender.acknowledge if inbound.ack else sender.refuse,
        exclude=client,
        owner=client.owner,
    )
    if inbound.type not in client.noted:
        sender.active(inbound.type, ref.address)
    if node.traces:
        sender.trace(inbound.kind, ref.address)


async def _publish_private(sender: Sender, inbound: Inbound, targets: Sequence[str]) -> None:
    """Publish to the inbox of each target. Unknown targets are named in one error; the others are served.

    Raises ``BusError`` TARGET_NOT_FOUND, FORBIDDEN, BUSY, UNAVAILABLE.
    """
    node, client = sender.node, sender.client
    here = node.clients.by_id
    absent = [target for target in targets if target not in here]
    there = await node.runtime.run(client_directory.known, absent) if absent else {}
    unknown = [target for target in absent if target not in there]
    served = [target for target in targets if target not in unknown]
    refs = [await node.channels.resolve(inbox(target), SYSTEM) for target in served]
    for ref in refs:
        node.permissions.check(client, PUBLISH, ref)
    plan = Plan(inbound, refs, unknown, [target for target in served if there.get(target)])
    node.publisher.publish(
        inbound, refs, client.client_id, Answer(sender, plan).done, exclude=client, owner=client.owner
    )
    if node.traces:
        for ref in refs:
            sender.trace(inbound.kind, ref.address)
    if served:
        # Whose inbox it was is between the two.
        sender.active("private", INBOXES)
    if unknown:
        raise target_not_found(unknown, len(targets))
