"""A client's messages on their way to ``bus.publishing``: at once where the process knows the channel, else after a look-up."""

from __future__ import annotations

from collections.abc import Sequence

from ..auth.permissions import PUBLISH, SYSTEM
from ..directory import clients as client_directory
from ..directory.channels import ChannelRef
from ..protocol.errors import target_not_found
from ..protocol.inbound import Inbound
from ..protocol.names import inbox
from ..protocol.routing import Route
from ..publishing.announce import Answer
from ..publishing.plan import INBOXES, Plan, route
from . import activity, amendments, appends, lane, questions
from .connection import Connection


def publish_at_once(connection: Connection, inbound: Inbound) -> bool:
    """Publish to a channel that this process knows. False where the database has to be asked, or several logs are written.

    Raises ``BusError`` INVALID_NAME, VALIDATION_ERROR, FORBIDDEN, BUSY.
    """
    node, client = connection.node, connection.client
    planned = inbound.route or route(inbound, client.actor, client.initial)
    if planned.targets is None:
        ref = node.channels.known(planned.address)
        # A hidden channel is refused after the same query as a missing one, so that the time tells nothing.
        if ref is not None and (not ref.private or node.permissions.may(client, PUBLISH, ref)):
            _publish_to(connection, inbound, ref)
            return True
    elif inbound.append is not None:
        return appends.append_at_once(connection, inbound)
    inbound.route = planned
    return False


async def publish(connection: Connection, inbound: Inbound) -> None:
    """Publish where :func:`publish_at_once` could not: a private message, or a channel that has to be looked up or made.

    Appends to streamed messages go on in ``appends``, replies in ``questions``, and amendments in ``amendments``.

    Raises ``BusError`` as that does, and CHANNEL_NOT_FOUND, TARGET_NOT_FOUND, NO_RESPONDER, LIMIT_REACHED, UNAVAILABLE.
    """
    if inbound.reply is not None:
        await questions.reply(connection, inbound, inbound.reply)
        return
    if inbound.append is not None:
        await appends.append(connection, inbound)
        return
    if inbound.amend is not None:
        await amendments.amend(connection, inbound, inbound.amend)
        return
    if publish_at_once(connection, inbound):
        return
    planned: Route = inbound.route  # type: ignore[assignment] # publish_at_once set it
    if planned.targets is not None:
        await _publish_private(connection, inbound, planned.targets)
        return
    ref = await connection.node.channels.resolve(planned.address, connection.client.actor, action=PUBLISH)
    _publish_to(connection, inbound, ref)


def _publish_to(connection: Connection, inbound: Inbound, ref: ChannelRef) -> None:
    node, client = connection.node, connection.client
    node.permissions.check(client, PUBLISH, ref)
    connection.publish(inbound, ref)
    if inbound.stream is not None:
        appends.remember(connection, inbound, ref.address)
    elif inbound.ask is not None:
        node.questions.expect(inbound.ask.timeout)
    if inbound.type not in client.noted:
        activity.announce(node, client, inbound.type, ref.address)
    if connection.lane is not None:
        lane.teach(connection, inbound, ref)


async def _publish_private(connection: Connection, inbound: Inbound, targets: Sequence[str]) -> None:
    """Publish to the inbox of each target. Unknown targets are named in one error; the others are served.

    Raises ``BusError`` TARGET_NOT_FOUND, NO_RESPONDER, FORBIDDEN, BUSY, UNAVAILABLE.
    """
    node, client = connection.node, connection.client
    here = node.clients.by_id
    absent = [target for target in targets if target not in here]
    there = await node.runtime.run(client_directory.known, absent) if absent else {}
    if inbound.ask is not None:
        await questions.reach(connection, inbound.ask, targets, there)
    unknown = [target for target in absent if target not in there]
    served = [target for target in targets if target not in unknown]
    refs = [await node.channels.resolve(inbox(target), SYSTEM) for target in served]
    for ref in refs:
        node.permissions.check(client, PUBLISH, ref)
    plan = Plan(inbound, refs, unknown, [target for target in served if there.get(target)])
    node.publisher.publish(
        inbound,
        refs,
        client.client_id,
        Answer(connection, plan).done,
        exclude=client,
        owner=client.owner,
        actor=client.actor,
    )
    if inbound.stream is not None and refs:
        appends.remember(connection, inbound, refs[0].address)
    if inbound.ask is not None:
        node.questions.expect(inbound.ask.timeout)
    if node.traces:
        for ref in refs:
            connection.trace(inbound.kind, ref.address)
    if served:
        # The activity does not reveal the inbox.
        activity.announce(node, client, "private", INBOXES)
    if unknown:
        raise target_not_found(unknown, len(targets))
