"""Publish from an event loop: the messages of its sockets and the server's own messages. Nothing here waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from ..auth.permissions import Actor
from ..conf.settings import config
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
from .gated import GateQueue


class Publisher:
    """Publishes the planned messages of one event loop: it makes their entries, commits them and announces them."""

    def __init__(self, log: LogWriter, broker: Broker, announcer: Announcer) -> None:
        self._log = log
        self._broker = broker
        self._announcer = announcer
        self._clock = WireClock()
        self._passed = passed()
        self._gates = GateQueue(announcer.committed, self._pass, config())
        #: Makes a new ``arq_…`` id.
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
        actor: Actor | None = None,
    ) -> None:
        """Publish a message to the logs of all ``refs``, or to none of them. The caller has checked the sender's rights.

        The options are those of :func:`~bus.publishing.entry.entries`. Raises ``BusError`` as that, and BUSY.
        """
        further = False
        for entry in entries(inbound, refs, sender, self.new_uid, owner=owner, exclude=exclude, done=done, actor=actor):
            ref: ChannelRef = entry.context
            if ref.gated and actor is not None and not actor.system:
                # Also the parts of a streamed message, which meet no gates: they must not overtake their opening.
                self._refuse_overload(ref)
                self._gates.append(entry, inbound, actor)
            elif ref.ephemeral and entry.effect is None:
                self._refuse_overload(ref)
                self._pass_by(entry)
            else:
                # After the first copy of a message is queued, the queue accepts the further ones even when it is full.
                self._log.append(entry, further=further)
                further = True

    def _refuse_overload(self, ref: ChannelRef) -> None:
        if ref.ephemeral and self._broker.overloaded:
            # The members in this process would receive the message, those of other processes would not, and nobody would know.
            raise BusError(ErrorCode.BUSY, retry_after=0.1)

    def _pass_by(self, entry: Entry) -> None:
        self._pass(entry)
        if entry.done is not None:
            entry.done(entry)

    def _pass(self, entry: Entry) -> None:
        pass_by(entry, self._passed, self._clock.stamp())
        if not entry.duplicate and not entry.swallowed:
            self._announcer.passed_by(entry)

    async def drained(self) -> None:
        """Return when every message is committed or refused."""
        await self._gates.drained()
        await self._log.drained()

    async def landed(self) -> None:
        """Return once the loop has the results of commits that threads beside the writer have already sent."""
        await self._log.landed()
        await self._gates.landed()

    async def behind(self, channel_id: int) -> None:
        """Return once the messages of a channel that wait now are in transactions, or were refused.

        What is read in the writing thread afterwards sees them.
        """
        await self._gates.behind(channel_id)
        await self._log.behind()

    def end_threads(self) -> list[Future[None]]:
        """Take no more work for gates. The futures are done when the threads have closed their connections."""
        return self._gates.end()
