"""Work notices: the members of a work channel see what happens to its jobs.

The changes of a moment become one frame, because workers may claim and end thousands of jobs a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...notify.broker import Broker
from ...notify.messages import WorkChange, WorkChanged
from ...protocol import frames
from ...protocol.names import Address
from ...realtime.hub import Hub, Stream
from ..client import ClientState
from ..clients.presence import Notices
from ..runtime import Runtime

#: Seconds that the changes of a channel gather.
GATHER = 0.2
#: Changes in a frame. Of more only the numbers are given.
LISTED = 50


class Gathering:
    """What happened in one channel since its last notice."""

    __slots__ = ("changes", "counts")

    def __init__(self) -> None:
        self.changes: list[WorkChange] = []
        self.counts: dict[str, int] = {}

    def add(self, change: WorkChange) -> None:
        """Note a change."""
        if len(self.changes) < LISTED:
            self.changes.append(change)
        self.counts[change.what] = self.counts.get(change.what, 0) + 1


class WorkNotices:
    """Gathers changes, and sends them to the members here and to the other processes."""

    def __init__(self, runtime: Runtime, hub: Hub, broker: Broker, notices: Notices) -> None:
        self._loop = runtime.loop
        self._hub = hub
        self._broker = broker
        self._notices = notices
        # The changes for the members here, by channel id, and those of this process for the other processes.
        self._gathering: dict[int, Gathering] = {}
        self._outgoing: list[WorkChange] = []
        self._timer: asyncio.TimerHandle | None = None

    def happened(self, changes: Sequence[WorkChange]) -> None:
        """Note changes that this process made."""
        self.receive(changes)
        if not self._broker.alone:
            self._outgoing += changes
            self._begin()

    def receive(self, changes: Sequence[WorkChange]) -> None:
        """Note changes of any process. Those of channels without members here are forgotten at once."""
        streams = self._hub.streams
        for change in changes:
            if change.channel_id in streams:
                self._gathering.setdefault(change.channel_id, Gathering()).add(change)
                self._begin()

    def stop(self) -> None:
        """Send what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._send()

    def _begin(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(GATHER, self._send)

    def _send(self) -> None:
        self._timer = None
        outgoing, self._outgoing = self._outgoing, []
        if outgoing:
            self._broker.send(WorkChanged(outgoing))
        gathering, self._gathering = self._gathering, {}
        for channel_id, gathered in gathering.items():
            stream = self._hub.stream(channel_id)
            if stream is not None:
                address, named = Address(stream.room, stream.channel), _shows_presence(stream)
                self._notices.deliver(channel_id, notice(address, gathered, named=named))


def _shows_presence(stream: Stream) -> bool:
    """Return whether the channel tells its members who is there."""
    refs = (member.memberships.get(stream.id) for member in stream.members if isinstance(member, ClientState))
    return any(ref is not None and ref.presence for ref in refs)


def notice(address: Address, gathered: Gathering, *, named: bool) -> bytes:
    """Return the frame that tells members what happened to jobs. It has the workers' names only if ``named``."""
    changes = [
        {
            "what": change.what,
            "seq": change.seq,
            "attempt": change.attempt,
            "by": change.by if named else None,
            "at": change.at,
        }
        for change in gathered.changes
    ]
    return frames.system("work", address, changes=changes, counts=gathered.counts)
