"""The node: builds, starts and stops the parts of a process that its connections share (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from django.apps import apps
from django.conf import settings as django_settings
from django.db import Error as DatabaseError

from .._speed import PATH
from ..auth.permissions import table
from ..conf.settings import LAYER_HINT, development_notice, in_memory_layer
from ..db import faults as database
from ..directory.channels import ChannelRef
from ..log import LogWriter
from ..monitoring import metrics
from ..monitoring.log_lines import Damper
from ..notify.broker import broker_for
from ..notify.messages import Notification
from ..publishing.announce import Announcer
from ..publishing.growth import Here
from ..publishing.loop import Publisher
from ..publishing.plan import limits_of
from ..realtime.frame_limits import FragmentBudget
from ..realtime.hub import Hub
from ..realtime.recent import RecentBudget
from ..realtime.writer import Bounds
from ..services import nodes as node_service
from ..services import seed
from ..version import VERSION
from .client import Clients
from .clients.admission import Admission
from .clients.departures import Departures
from .clients.identities import Identities
from .clients.members import Members
from .clients.memberships import Memberships
from .clients.observers import Observers
from .clients.presence import Notices
from .clients.presence_tables import PresenceTables
from .clients.registration import Registrations
from .clients.resumption import Resumptions
from .clients.rights import Rights
from .clients.statuses import Statuses
from .decisions import Decisions
from .delivery.channels import Channels
from .delivery.growing import Growing
from .delivery.owners import Owners
from .delivery.replay import Replays
from .delivery.streams import Streams
from .delivery.watch import Watch
from .interest import Interest
from .jobs import Work
from .marks import Marks
from .notifications import Notifications
from .permissions import Permissions
from .questions import Questions
from .renderings import Renderings
from .runtime import Runtime
from .threads import unavailable
from .upkeep import drain, sigterm
from .upkeep.heartbeat import Heartbeat
from .upkeep.housekeeping import Housekeeping
from .upkeep.statistics import Statistics

logger = logging.getLogger("arqonbus.node")

#: Seconds since the last heartbeat after which even a process that has only just begun sweeps another one.
LONG_DEAD = 60.0
#: Bytes that the unfinished messages of all unregistered connections may take, above 16 KiB for each of them.
UNREGISTERED_BYTES = 16 * 1024 * 1024


class Node:
    """One per process and event loop. Connections call its parts; other threads call only :meth:`receive_threadsafe`."""

    def __init__(self) -> None:
        runtime = self.runtime = Runtime()
        settings = runtime.settings
        self.traffic = runtime.traffic
        #: The limits of each connection.
        self.limits = limits_of(settings)
        self.bounds = Bounds(bytes=settings.send_buffer, frames=settings.send_frames, deadline=settings.send_deadline)
        self.clients = Clients()
        self.permissions = Permissions()
        self.hub = Hub(
            runtime.loop, RecentBudget(messages=settings.ring, size=settings.ring_bytes, total=settings.ring_total)
        )
        self.broker = broker_for(lambda notification: self.notifications.receive(notification))
        self._build_delivery()
        self._build_clients()
        self.work = Work(runtime, self.hub, self.broker, self.channels, self.permissions, self.notices)
        self._build_log()
        self.notifications: Notifications = Notifications(
            self.clients,
            self.channels,
            self.streams,
            self.watch,
            self.announcer,
            self.memberships,
            self.observers,
            self.notices,
            self.rights,
            self.growing,
            self.owners,
            self.questions,
            self.work,
            self.decisions,
        )
        self._build_upkeep()
        #: The messages of live pages as HTML.
        self.renderings = Renderings(runtime)
        self.streams.on_erased = self.renderings.forget
        #: Whether the path of each message is logged.
        self.traces = logger.isEnabledFor(logging.DEBUG)
        #: What the compiled paths of its connections share (``bus.sockets.lane``).
        self.road: object = None
        #: Bounds the log lines about refused frames and commands, so that a flood of them is no flood of lines.
        self.refusals = Damper(rate=10.0, burst=100.0)
        #: Bounds the bytes of unfinished messages of all unregistered connections.
        self.fragments = FragmentBudget(UNREGISTERED_BYTES)
        #: Called when the drain begins.
        self.on_drain: list[Callable[[], None]] = [self.work.drain, self.decisions.drain]
        self._started: asyncio.Future[None] | None = None
        self._complained = False

    def _build_delivery(self) -> None:
        runtime = self.runtime
        self.channels = Channels(runtime.run_writer)
        self.interest = Interest(self.broker, self.hub, self.clients)
        self.streams = Streams(self.hub, self.interest, runtime.run_watcher, self._own_delivered, self.channels.forget)
        self.replays = Replays(runtime, self.hub, self.streams, self.channels)
        self.growing = Growing(runtime, self.hub, self.streams)
        self.owners = Owners(runtime, self.clients, self.hub, self.channels, self.permissions)
        self.questions = Questions(runtime, self.clients, self.hub, self.broker, self.interest)
        self.decisions = Decisions(runtime)
        self.watch = Watch(
            runtime,
            self.clients,
            self.streams,
            self.replays,
            self.growing,
            self.owners,
            lambda channel_id, problem: self.memberships.drop_log(channel_id, problem),
        )
        self.streams.on_other_log = self.watch.other_log
        self.broker.on_reconnect = self.watch.compare_all_next

    def _build_clients(self) -> None:
        runtime, clients, channels = self.runtime, self.clients, self.channels
        streams, replays = self.streams, self.replays
        self.presence_tables = tables = PresenceTables(runtime)
        self.notices = notices = Notices(runtime, self.hub, self.broker, self.permissions)
        self.observers = Observers(runtime, self.hub, streams, replays, self.permissions)
        self.memberships = memberships = Memberships(clients, self.hub, channels, tables, notices, self.observers)
        self.admission = Admission(runtime, clients)
        self.rights = rights = Rights(runtime, clients, channels, self.permissions, memberships, self.observers)
        self.statuses = Statuses(runtime, notices)
        self.marks = Marks(runtime, channels, self.permissions)
        self.members = Members(runtime, channels, streams, replays, self.marks, rights, memberships, tables, notices)
        self.departures = Departures(self.traffic, clients, channels, self.admission, memberships, tables, notices)
        identities = Identities(runtime, clients, self.admission, tables, self.interest)
        resumptions = Resumptions(channels, streams, replays, rights, self.members, memberships, tables)
        self.registrations = Registrations(
            channels, streams, replays, self.marks, rights, memberships, notices, identities, resumptions
        )

    def _build_log(self) -> None:
        runtime, settings = self.runtime, self.runtime.settings
        self.announcer = Announcer(
            self.hub,
            self.broker,
            deliver=self.streams.committed,
            meet_inbox=self._meet_inbox,
            log_gone=self._log_gone,
            here=Here(self.growing, self.owners),
            jobs_ready=self.work.announce,
        )
        self.log = LogWriter(
            runtime.writer,
            runtime.apart,
            self.announcer.committed,
            group=settings.group_commit,
            queue_limit=settings.queue_limit,
            queue_bytes=settings.queue_bytes,
            timeout=settings.store_timeout,
            window=settings.idempotency_window,
        )
        self.log_times = metrics.LogTimes()
        self.log.observe_commit = self.log_times.observe
        self.publisher = Publisher(self.log, self.broker, self.announcer)

    def _meet_inbox(self, ref: ChannelRef, epoch: str, frame: bytes) -> None:
        """Attach the inbox of a client here when its first message comes, and wake those whose question ``frame`` answers."""
        self.questions.heard(ref.address.channel, frame)
        client = self.clients.by_id.get(ref.address.channel)
        if client is not None:
            self.watch.attach_inbox(client, ref.id, epoch)

    def _log_gone(self, ref: ChannelRef) -> None:
        """End the memberships in a channel that turned out to be deleted."""
        self.channels.forget(ref.address)
        self.memberships.drop_log(ref.id, None)

    def _build_upkeep(self) -> None:
        runtime, clients = self.runtime, self.clients
        self.statistics = Statistics(
            runtime,
            clients,
            self.hub,
            self.streams,
            self.log,
            self.announcer,
            self.broker,
            self.growing,
            self.work,
            self.log_times,
        )
        self.heartbeat = Heartbeat(
            runtime,
            clients,
            self.log,
            self.announcer,
            self.admission,
            self.departures,
            self.notices,
            self.statistics.figures,
        )
        self.housekeeping = Housekeeping(runtime, clients, self.streams, self.departures, self.presence_tables)

    # --- start and stop ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make ready: rooms, heartbeat, listener. Each connection calls it; the first call does the work.

        Raises ``BusError`` UNAVAILABLE while the database does not answer. Then the next connection tries again.
        """
        if self._started is None or (self._started.done() and self._started.exception() is not None):
            self._started = asyncio.ensure_future(self._start())
        await asyncio.shield(self._started)

    async def _start(self) -> None:
        own = [node.runtime.node_id for node in apps.get_app_config("bus").loops.values()]  # type: ignore[attr-defined]
        try:
            crashed, others = await self.runtime.run_writer(self._prepare, [*own, self.runtime.node_id])
        except DatabaseError as problem:
            if not self._complained:
                self._complain(await asyncio.to_thread(database.first_hand, problem))
            raise unavailable() from None
        self._complained = False
        if self.runtime.repeating:
            return
        await self.broker.start()
        apps.get_app_config("bus").nodes.add(self)  # type: ignore[attr-defined]
        self._begin_upkeep()
        self.notices.process_died(crashed)
        sigterm.install(self.runtime.loop, self.stop)
        self._say_started(others)

    def _prepare(self, own: list[str]) -> tuple[list[node_service.Left], list[str]]:
        """Prepare the database; ``own`` are the ids of this process's nodes. Runs in the writing thread.

        Returns the clients of processes that crashed on this machine, and the other processes that this one cannot reach.
        """
        runtime = self.runtime
        seed.release()
        seed.seed_hardcoded()
        self.rights.begin()
        table().refresh()
        node_service.started(runtime.node_id, runtime.host, os.getpid(), VERSION)
        crashed = node_service.sweep_crashed(runtime.host, own)
        node_service.sweep_dead(max(LONG_DEAD, runtime.settings.node_timeout))
        return crashed, node_service.others(runtime.node_id) if in_memory_layer() else []

    def _begin_upkeep(self) -> None:
        repeat, settings = self.runtime.repeat, self.runtime.settings
        repeat(self.watch.compare)
        repeat(self.questions.look)
        repeat(self.decisions.look)
        repeat(self.heartbeat.beat)
        repeat(self.housekeeping.tidy)
        repeat(self.housekeeping.end_overdue)
        repeat(self.housekeeping.end_statuses)
        repeat(self.rights.look)
        repeat(self.observers.look)
        repeat(self.admission.close_unregistered)
        repeat(self.work.look)
        repeat(self.work.sweep)
        if settings.stats_interval:
            repeat(self.statistics.report)
        if settings.telemetry_interval:
            repeat(self.statistics.announce)

    def _say_started(self, others: list[str]) -> None:
        node_id = self.runtime.node_id
        if others:
            logger.warning(
                "%s serves this database too, and the two servers cannot notify each other. %s",
                others[0],
                LAYER_HINT,
                extra={"event": "not_alone", "node": node_id},
            )
        if django_settings.DEBUG:
            logger.warning("%s", development_notice(), extra={"event": "development_mode"})
        loop = type(self.runtime.loop).__module__.partition(".")[0]
        extra = {"event": "node_started", "node": node_id, "loop": loop, "path": PATH}
        logger.info("ArqonBus %s is running as node %s", VERSION, node_id, extra=extra)

    def _complain(self, problem: DatabaseError) -> None:
        """Log why the node does not start, and what to do about it."""
        self._complained = True
        logger.error(
            "%s The server tries again with the next connection.",
            database.in_words(problem),
            extra={"event": "not_started", "node": self.runtime.node_id},
        )

    async def stop(self) -> None:
        """End in order: accepted messages are committed and acknowledged, sockets closed with 4012, presence cleared.

        It takes ``drain_timeout`` and 3 seconds at most. New frames are refused with RESTARTING meanwhile.
        """
        if self.traffic.draining:
            return
        self.traffic.draining = True
        for begun in self.on_drain:
            begun()
        runtime, settings = self.runtime, self.runtime.settings
        logger.info("stopping: closing %d connections", len(self.clients.by_connection), extra={"event": "drain"})
        await drain.within(settings.drain_timeout, drain.finish_work(self.traffic, self.publisher), "accepted work")
        closing = drain.close_sockets(self.clients, self.hub, self.log, settings.retry_spread)
        await drain.within(1.0, closing, "closing handshakes")
        runtime.stop_repeating()
        self.rights.stop()
        self.observers.stop()
        self.streams.stop()
        self.questions.stop()
        await drain.within(1.0, drain.clear_presence(runtime, self.announcer, self.notices), "presence")
        self.notices.stop()
        self.work.stop()
        apps.get_app_config("bus").nodes.discard(self)  # type: ignore[attr-defined]
        await self.broker.stop()
        ending = [*runtime.end_threads(), *self.publisher.end_threads()]
        await drain.within(1.0, drain.all_done(ending), "database connections")
        logger.info("node %s stopped", runtime.node_id, extra={"event": "node_stopped", "node": runtime.node_id})

    async def _own_delivered(self) -> None:
        """Return once the commit that runs now, if any, is delivered to the streams."""
        await self.runtime.writer_idle()
        await self.publisher.landed()

    # --- from other threads -------------------------------------------------------------------------------------------

    def receive_threadsafe(self, notification: Notification, *, pass_on: bool) -> None:
        """Apply a notification of another thread of this process here and, with ``pass_on``, send it to the other processes.

        ``pass_on`` is for one of the process's nodes.
        """

        def in_loop() -> None:
            self.notifications.receive(notification)
            if pass_on:
                self.announcer.count(notification)
                self.broker.send(notification)

        try:
            self.runtime.loop.call_soon_threadsafe(in_loop)
        except RuntimeError:  # The loop is closed, so no client is left to notify.
            logger.debug("received a notification after the stop")


def running() -> Node | None:
    """Return the node of the running loop, if it has one."""
    loop = asyncio.get_running_loop()
    nodes: set[Node] = apps.get_app_config("bus").nodes  # type: ignore[attr-defined]
    for node in nodes:
        if node.runtime.loop is loop:
            return node
    return None


def current() -> Node:
    """Return the node of the running loop, made on first use. Call ``await node.start()`` before using it."""
    nodes: dict[asyncio.AbstractEventLoop, Node] = apps.get_app_config("bus").loops  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    node = nodes.get(loop)
    if node is None:
        for old in [old for old in nodes if old.is_closed()]:
            del nodes[old]
        node = nodes[loop] = Node()
    return node
