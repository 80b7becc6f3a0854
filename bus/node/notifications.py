"""Applies the notifications of other processes, and of other threads of this one, to the parts of the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..notify import messages
from ..protocol.errors import BusError
from ..protocol.names import INBOX_ROOM, Address
from ..publishing.announce import Announcer
from .client import Clients, ClientState
from .clients.memberships import Memberships
from .clients.observers import Observers
from .clients.presence import Notices
from .clients.rights import Rights
from .decisions import Decisions
from .delivery.channels import Channels
from .delivery.growing import Growing
from .delivery.owners import Owners
from .delivery.streams import Streams
from .delivery.watch import Watch
from .jobs import Work
from .questions import Questions


class Notifications:
    """Hands each notification to the part that it concerns. Called in the event loop; nothing waits."""

    def __init__(
        self,
        clients: Clients,
        channels: Channels,
        streams: Streams,
        watch: Watch,
        announcer: Announcer,
        memberships: Memberships,
        observers: Observers,
        notices: Notices,
        rights: Rights,
        growing: Growing,
        owners: Owners,
        questions: Questions,
        work: Work,
        decisions: Decisions,
    ) -> None:
        self._clients = clients
        self._channels = channels
        self._streams = streams
        self._watch = watch
        self._memberships = memberships
        self._observers = observers
        self._questions = questions
        self._work = work
        self._handlers: dict[type, Callable[[Any], None]] = {
            messages.Published: self._published,
            messages.EphemeralPublished: announcer.receive_ephemeral,
            messages.PresenceNotice: lambda notification: notices.deliver(notification.channel_id, notification.frame),
            messages.ClientUpdated: notices.updated,
            messages.ChannelChanged: self._changed,
            messages.AccessChanged: lambda notification: rights.changed(notification.subject, notification.id),
            messages.Dismiss: self._dismiss,
            messages.StreamParts: growing.receive_parts,
            messages.StreamSignal: lambda signal: (
                owners.tell(signal) if signal.for_owner else growing.receive_signal(signal)
            ),
            messages.QuestionsEnded: questions.receive,
            messages.Erased: lambda erased: streams.erased(erased.channel_id, erased.messages),
            messages.WorkReady: work.ready,
            messages.WorkChanged: work.changed,
            messages.DecisionsEnded: decisions.receive,
        }

    def receive(self, notification: messages.Notification) -> None:
        """Apply a notification. Kinds that no part of the node needs are ignored."""
        handler = self._handlers.get(type(notification))
        if handler is not None:
            handler(notification)

    def _published(self, notification: messages.Published) -> None:
        committed, by_id = self._streams.committed, self._clients.by_id
        for channel_id, room, channel, epoch, seq, frame in notification.messages:
            if room == INBOX_ROOM:
                if (client := by_id.get(channel)) is not None:
                    self._watch.attach_inbox(client, channel_id, epoch)
                self._questions.heard(channel, frame)
            committed(channel_id, seq, frame)

    def _changed(self, notification: messages.ChannelChanged) -> None:
        """Look up anew a channel, or with an empty channel a whole room, and end the memberships in a deleted log."""
        if notification.channel:
            self._channels.forget(Address(notification.room, notification.channel))
        else:
            self._channels.forget_room(notification.room)
        self._clients.forget_permissions()
        if notification.deleted:
            self._memberships.drop_log(notification.deleted, None)
            self._work.wake_all(notification.deleted)
        elif notification.channel:
            self._observers.changed(notification.room)

    def _dismiss(self, notification: messages.Dismiss) -> None:
        for client in self._dismissed(notification):
            client.drop(notification.close_code, BusError(notification.code, notification.message))

    def _dismissed(self, notification: messages.Dismiss) -> list[ClientState]:
        """Return the connections here that a notification closes."""
        one = self._clients.by_connection.get(notification.connection_id)
        current = self._clients.by_id.get(notification.client_id)
        if notification.before is None:
            found = one if notification.connection_id else current
            return [found] if found is not None else []
        # Notifications may cross: a connection that has the id by a later claim stays.
        return [client for client in {one, current} if client is not None and client.order < notification.before]
