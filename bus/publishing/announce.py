"""The way of a message into the log, and from the commit to the members and the other processes (docs/architecture.md)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from django.apps import apps

from .. import signals
from ..auth.permissions import PUBLISH
from ..directory.channels import ChannelRef
from ..log import Entry, Passed, id_taken
from ..node.client import ClientState
from ..node.delivery.clock import WireClock
from ..notify import messages as bells
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Inbound
from ..protocol.names import INBOX_ROOM, Address

if TYPE_CHECKING:
    from ..node.node import Node


class Publisher:
    """What a node does with messages of its own connections. Called from the loop; nothing here waits."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._uid_prefix = f"arq_{node.id[:8]}{secrets.token_hex(3)}"
        self._uid = 0
        self._clock = WireClock()
        #: Messages published in this process.
        self.published = 0
        #: How many of them are the server's own (telemetry's), which nobody sent.
        self.own = 0
        #: Messages of ephemeral channels since the last sign of life: no log counts them.
        self.passed = 0
        # Which messages of ephemeral channels came to this process by any door, and which of them the members here have had.
        self._taken: Passed = apps.get_app_config("bus").passed  # type: ignore[attr-defined]
        self._delivered = Passed()

    def new_uid(self) -> str:
        """A fresh ``arq_…`` id."""
        self._uid += 1
        return f"{self._uid_prefix}{self._uid:x}"

    def publish(
        self, client: ClientState, ref: ChannelRef, inbound: Inbound, done: Callable[[Entry], None] | None
    ) -> None:
        """Take a message: into the log, or straight to the members on an ephemeral channel.

        ``done`` is called in the loop once its fate is known. Raises ``BusError`` FORBIDDEN or BUSY.
        """
        if not self._node.may(client, PUBLISH, ref):
            raise self._node.refusal(client, PUBLISH, ref)
        self.take(
            client.client_id,
            ref,
            inbound,
            done,
            None if inbound.echo else client,
            owner=client.actor.principal or client.peer_address,
        )

    def publish_copies(
        self, client: ClientState, copies: Sequence[tuple[ChannelRef, Inbound]], done: Callable[[Entry], None]
    ) -> None:
        """Take one message's copies for several logs, or none of them; ``done`` is called for each.

        Raises ``BusError`` FORBIDDEN or BUSY.
        """
        for ref, _ in copies:
            if not self._node.may(client, PUBLISH, ref):
                raise self._node.refusal(client, PUBLISH, ref)
        owner = client.actor.principal or client.peer_address
        for position, (ref, inbound) in enumerate(copies):
            exclude = None if inbound.echo else client
            self.take(client.client_id, ref, inbound, done, exclude, further=position > 0, owner=owner)

    def take(
        self,
        client_id: str,
        ref: ChannelRef,
        inbound: Inbound,
        done: Callable[[Entry], None] | None = None,
        exclude: ClientState | None = None,
        *,
        further: bool = False,
        owner: str = "",
    ) -> None:
        """As :meth:`publish`, for a sender whom the caller vouches for. ``exclude`` does not receive it.

        ``owner`` is whom it counts for while it waits for the log: a principal, or the address of a stranger.

        ``further`` marks a copy of a message of which a copy was taken already: the log takes this one, too.
        Raises ``BusError`` BUSY.
        """
        message_id = inbound.id
        uid = frames.message_uid(message_id) if message_id else self.new_uid()
        head, tail = frames.message_parts(inbound, ref.address, client_id, uid)
        entry = Entry(
            ref.id,
            head,
            tail,
            uid=uid,
            type=inbound.type,
            sender=client_id,
            exclude=exclude,
            context=ref,
            request_id=message_id,
            owner=owner,
        )
        if not ref.ephemeral:
            entry.done = done
            if message_id:
                entry.key = frames.publish_key(client_id, message_id, ref.address)
            self._node.log.append(entry, further=further)
            return
        if self._node.broker.crowded:
            # Accepted would mean delivered here and nowhere else, without anybody being told.
            raise BusError(ErrorCode.BUSY, retry_after=0.1)
        key = frames.publish_key(client_id, message_id, ref.address) if message_id else ""
        if key and self._passed_before(key, ref.id):
            entry.duplicate = True
        else:
            self.published += 1
            self.passed += 1
            frame = frames.finish_message(head, tail, self._clock.stamp(), None)
            self.deliver_passing(ref.id, frame, key, exclude)
            if not self._node.broker.alone:
                self._node.broker.ring(bells.Passing([(ref.id, frame)], [key]))
        if done is not None:
            done(entry)

    def _passed_before(self, key: str, channel_id: int) -> bool:
        """Whether an ephemeral message with this key came lately.

        Raises ``BusError`` VALIDATION_ERROR where it went to another channel.
        """
        before = self._taken.admit(key, channel_id)
        if before is not None and before != channel_id:
            raise id_taken()
        return before is not None

    def deliver_passing(self, channel_id: int, frame: bytes, key: str = "", exclude: ClientState | None = None) -> None:
        """Hand a message of an ephemeral channel to the members here, unless they have had it: by another door or process."""
        if key:
            # So that whoever repeats it here is told so.
            self._taken.admit(key, channel_id)
            if self._delivered.admit(key, channel_id) is not None:
                return
        stream = self._node.hub.stream(channel_id)
        if stream is not None:
            self._node.hub.pass_on(stream, frame, exclude)

    def committed(self, entries: Sequence[Entry]) -> None:
        """After a commit of ours: deliver here, and ring for the others."""
        committed = self._node.streams.committed
        alone = self._node.broker.alone
        told: list[tuple[int, str, str, str, int, bytes]] = []
        heard = signals.message_published.receivers
        facts: list[tuple[Address, int, bytes]] = []
        for entry in entries:
            seq = entry.seq
            if entry.error is not None or entry.duplicate or seq is None:
                if entry.error is not None and entry.error.code == ErrorCode.CHANNEL_NOT_FOUND:
                    # Deleted, and its bell was lost: whoever is still in it hears nothing any more.
                    self._node.channels.forget(entry.context.address)
                    self._node.members.drop_stream(entry.channel_id, None)
                continue
            self.published += 1
            ref: ChannelRef = entry.context
            if ref.address.room == INBOX_ROOM:
                self._meet_inbox(ref, entry.epoch)
            committed(entry.channel_id, seq, entry.frame, entry.exclude)
            if not alone:
                told.append((ref.id, ref.address.room, ref.address.channel, entry.epoch, seq, entry.frame))
            if heard:
                facts.append((ref.address, seq, entry.frame))
        if told:
            self._node.broker.ring(bells.Published(told))
        if facts:
            signals.message_published.send_robust(Publisher, messages=facts)

    def _meet_inbox(self, ref: ChannelRef, epoch: str) -> None:
        """An inbox gets its stream when the first message for a client that is here comes."""
        client = self._node.clients.by_id.get(ref.address.channel)
        if client is not None and not client.inbox_id:
            self._node.watch.attach_inbox(client, ref.id, epoch)

    @property
    def client_messages(self) -> int:
        """Messages published here, without the server's own."""
        return max(self.published - self.own, 0)
