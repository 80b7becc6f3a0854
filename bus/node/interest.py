"""What this process has to hear of: the logs that it reads along, its clients, and those for whose answers a request waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..directory.channels import ChannelRef
from ..notify.broker import Broker
from ..notify.topics import channel_topic, client_topic
from ..protocol.names import INBOX_ROOM
from ..realtime.hub import Hub
from .client import Clients


class Interest:
    """Follows the topics of this process's streams and clients, and drops them some time after they are gone.

    A topic is followed before it is needed. Nobody has to say that it is not needed any more: :meth:`collect` finds out.
    """

    def __init__(self, broker: Broker, hub: Hub, clients: Clients) -> None:
        self._broker = broker
        self._hub = hub
        self._clients = clients
        # What is followed: the ids of channels, and the client ids of clients.
        self._followed: set[int | str] = set()
        self._idle: set[int | str] = set()
        #: The clients for whose answers a request waits here.
        self.askers: Callable[[], Iterable[str]] = tuple

    async def in_log(self, ref: ChannelRef) -> None:
        """Hear of a log from the return on."""
        if self._broker.alone:
            return
        key: int | str = ref.address.channel if ref.address.is_inbox else ref.id
        self._keep(key)
        await self._broker.follow(_topic(key))

    def in_client(self, client_id: str) -> None:
        """Hear of a client from soon on: its inbox, and what concerns its connection."""
        if self._broker.alone:
            return
        self._keep(client_id)
        self._broker.follow_soon(client_topic(client_id))

    def _keep(self, key: int | str) -> None:
        self._followed.add(key)
        self._idle.discard(key)

    def collect(self) -> None:
        """Drop what nothing here needed at the last call either."""
        if self._broker.alone:
            return
        streams, clients = self._hub.streams, self._clients.by_id
        needed = {stream.channel for stream in streams.values() if stream.room == INBOX_ROOM}
        needed.update(self.askers())
        idle = {
            key
            for key in self._followed
            if not ((key in clients or key in needed) if isinstance(key, str) else key in streams)
        }
        for key in idle & self._idle:
            self._followed.discard(key)
            self._broker.unfollow(_topic(key))
        self._idle = idle & self._followed


def _topic(key: int | str) -> str:
    return client_topic(key) if isinstance(key, str) else channel_topic(key)
