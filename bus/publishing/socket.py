"""A client's messages on their way in (contract §4): to a channel, at once where the process knows it, or to inboxes."""

from __future__ import annotations

from typing import Protocol

import msgspec

from ..auth.permissions import PUBLISH, require_admin_for
from ..directory import clients as client_directory
from ..directory.channels import ChannelRef
from ..log import Entry
from ..node import ClientState, Node
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode, target_not_found
from ..protocol.inbound import Inbound
from ..protocol.names import INBOX_ROOM, WHOLE, Address, inbox
from ..protocol.routing import delivered_type, private_targets, resolve


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
    """Publish to a channel that this process knows; False when that takes a look at the database or several logs.

    Raises ``BusError`` INVALID_NAME, FORBIDDEN, BUSY.
    """
    node, client = sender.node, sender.client
    address = resolve(inbound.room, inbound.channel, client.initial)
    require_admin_for(client.actor, inbound.type, address)
    if private_targets(inbound.channel, inbound.to, address) is not None:
        return False
    ref = node.channels.known(address)
    if ref is None or (ref.private and not node.may(client, PUBLISH, ref)):
        # What is hidden is refused after the same look as what is not there.
        return False
    _publish_to(sender, ref, inbound)
    return True


async def publish(sender: Sender, inbound: Inbound) -> None:
    """Publish where :func:`publish_at_once` could not: a private message, or a channel that has to be found or made.

    Raises ``BusError`` as that does, and CHANNEL_NOT_FOUND, LIMIT_REACHED, UNAVAILABLE.
    """
    if publish_at_once(sender, inbound):
        return
    client = sender.client
    address = resolve(inbound.room, inbound.channel, client.initial)
    targets = private_targets(inbound.channel, inbound.to, address)
    if targets is not None:
        inbound.to = targets
        await publish_private(sender, inbound)
        return
    _publish_to(sender, await sender.node.channels.resolve(address, client.actor, action=PUBLISH), inbound)


def _publish_to(sender: Sender, ref: ChannelRef, inbound: Inbound) -> None:
    node, client = sender.node, sender.client
    node.publisher.publish(client, ref, inbound, sender.acknowledge if inbound.ack else sender.refuse)
    if inbound.type not in client.noted:
        sender.active(inbound.type, ref.address)
    if node.traces:
        sender.trace(inbound.kind, ref.address)


async def publish_private(sender: Sender, inbound: Inbound) -> None:
    """To each target's inbox; unknown targets are named in one error, the rest are served (contract §4).

    Raises ``BusError`` VALIDATION_ERROR, TARGET_NOT_FOUND, FORBIDDEN, BUSY, UNAVAILABLE.
    """
    node, client = sender.node, sender.client
    if not inbound.to:
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": "to", "message": "`to` is missing: a client_id or a list of them."}],
        )
    absent = [target for target in inbound.to if target not in node.clients.by_id]
    unknown: set[str] = set()
    waiting: dict[str, bool] = {}
    if absent:
        waiting = await node.run(client_directory.known, absent)
        unknown = set(absent) - waiting.keys()
    served = [target for target in inbound.to if target not in unknown]
    copies: list[tuple[ChannelRef, Inbound]] = []
    for target in served:
        ref = await node.channels.resolve(inbox(target), node.system)
        # Whoever names itself wants to hear itself.
        echo = inbound.echo or target == client.client_id
        kind = delivered_type(inbound.type, ref.address)
        copies.append((ref, msgspec.structs.replace(inbound, type=kind, echo=echo)))
    unproven = [target for target in served if waiting.get(target)]
    node.publisher.publish_copies(client, copies, _Gather(sender, inbound, len(copies), unproven).done)
    if node.traces:
        for target in served:
            sender.trace(inbound.kind, inbox(target))
    if served:
        # Whose inbox it was is between the two.
        sender.active("private", Address(INBOX_ROOM, WHOLE))
    if unknown:
        raise target_not_found([target for target in inbound.to if target in unknown], len(inbound.to))


class _Gather:
    """One ack (or error) for a private message, once all of its copies are kept."""

    __slots__ = ("_duplicates", "_error", "_inbound", "_left", "_sender", "_seqs", "_unproven")

    def __init__(self, sender: Sender, inbound: Inbound, total: int, unproven: list[str]) -> None:
        self._sender = sender
        self._inbound = inbound
        self._left = total
        self._unproven = unproven
        self._error: BusError | None = None
        self._seqs: dict[str, int | None] = {}
        self._duplicates = 0

    def done(self, entry: Entry) -> None:
        """One copy's fate is known."""
        self._left -= 1
        self._error = entry.error or self._error
        self._seqs[entry.context.address.channel] = entry.seq
        self._duplicates += entry.duplicate
        if self._left:
            return
        sender, inbound, seqs = self._sender, self._inbound, self._seqs
        if self._error is not None:
            sender.error(self._error, inbound.id)
        elif inbound.ack:
            duplicate = self._duplicates == len(seqs)
            if len(inbound.to) == 1:
                ((target, seq),) = seqs.items()
                place, targets = inbox(target), None
            else:
                place, seq, targets = Address(INBOX_ROOM, WHOLE), None, seqs
            sender.send(
                frames.ack(inbound.id, place, seq, duplicate=duplicate, targets=targets, unproven=self._unproven)
            )
