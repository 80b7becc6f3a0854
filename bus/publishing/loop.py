"""Publishing from an event loop: the messages of its sockets and the server's own. Nothing here waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..directory.channels import ChannelRef
from ..log import Entry, LogWriter
from ..notify.broker import Broker
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Inbound
from ..realtime.hub import Member
from .announce import Announcer
from .clock import WireClock
from .commit import pass_by, passed
from .entry import Uids, entries


class Publisher:
    """Publishes the planned messages of one event loop: makes their entries, and commits and announces them."""

    def __init__(self, log: LogWriter, broker: Broker, announcer: Announcer) -> None:
        self._log = log
        self._broker = broker
        self._announcer = announcer
        self._clock = WireClock()
        self._passed = passed()
        #: A fresh ``arq_…`` id.
        self.new_uid = Uids()

    def publish(
        self,
        inbound: Inbound,
        refs: Sequence[ChannelRef],
        sender: str,
        done: Callable[[Entry], None],
        *,
        exclude: Member | None = None,
        owner: str = "",
    ) -> None:
        """Publish a message into the logs of all ``refs``, or none of them. Its sender may: the caller has checked that.

        The options are those of :func:`~bus.publishing.entry.entries`. Raises ``BusError`` BUSY.
        """
        further = False
        for entry in entries(inbound, refs, sender, self.new_uid, owner=owner, exclude=exclude, done=done):
            if entry.context.ephemeral:
                self._pass_by(entry)
            else:
                # A copy of which another copy was queued already is queued, too.
                self._log.append(entry, further=further)
                further = True

    def _pass_by(self, entry: Entry) -> None:
        if self._broker.overloaded:
            # Its members here would get it and those of other processes would not, without anybody knowing.
            raise BusError(ErrorCode.BUSY, retry_after=0.1)
        pass_by(entry, self._passed, self._clock.stamp())
        if not entry.duplicate:
            self._announcer.passed_by(entry)
        if entry.done is not None:
            entry.done(entry)
