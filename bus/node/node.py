"""The node: everything of a process that connections share (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.db import Error as DatabaseError

from ..auth.permissions import SYSTEM, can, require, table
from ..conf.settings import LAYER_HINT, config, development_notice, in_memory_layer
from ..db import faults as database
from ..directory.channels import ChannelRef
from ..log import LogWriter
from ..monitoring import metrics
from ..monitoring.log_lines import Damper
from ..notify import messages as notifications
from ..notify.broker import broker_for
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import INBOX_ROOM, Address
from ..publishing.announce import Announcer
from ..publishing.loop import Publisher
from ..realtime.hub import Hub
from ..realtime.odd_frames import Allowance
from ..realtime.recent import Memory
from ..realtime.writer import Bounds
from ..services import connections as connection_service
from ..services import nodes as node_service
from ..services import seed
from ..version import VERSION
from .batch import Batcher
from .client import Clients, ClientState
from .clients.admission import Admission
from .clients.members import Members
from .clients.presence import Notices
from .clients.registration import Registrations
from .clients.rights import Access
from .delivery.channels import Channels
from .delivery.replay import Replays
from .delivery.streams import Streams
from .delivery.watch import Watch
from .threads import DatabaseThreads, database_call, database_read, unavailable
from .upkeep import drain, sigterm
from .upkeep.heartbeat import Life
from .upkeep.statistics import Statistics

logger = logging.getLogger("arqonbus.node")

#: Age, in seconds, of a process's last sign of life at which it is swept even by one that has only just begun.
LONG_DEAD = 60.0
#: What the unfinished messages of all who have not registered may take, bytes, above 16 KiB for each of them.
STRANGERS_BYTES = 16 * 1024 * 1024

#: Answers of the permission table that one connection remembers.
REMEMBERED_RIGHTS = 1000


class Node:
    """One per process and loop. Connections call it from the loop; other threads only through :meth:`hear_threadsafe`."""

    def __init__(self) -> None:
        settings = config()
        self.loop = asyncio.get_running_loop()
        self.id = secrets.token_hex(8)
        self.host = socket.gethostname()[:255]
        self.started_at = datetime.now(UTC)
        self.settings = settings
        self.bounds = Bounds(bytes=settings.send_buffer, frames=settings.send_frames, deadline=settings.send_deadline)
        # One thread writes (SQLite has one writer anyway), one looks up what a frame needs to be served, one answers questions
        # that look through many rows, and one looks after the streams, which no slow question may hold up. Each keeps one
        # database connection.
        self._writer_thread = DatabaseThreads(1, "arqonbus-log")
        self._reader = DatabaseThreads(1, "arqonbus-read")
        self._asker = DatabaseThreads(1, "arqonbus-ask")
        # Waits for channels whose row somebody's transaction holds; has a connection only meanwhile.
        self._apart = DatabaseThreads(1, "arqonbus-apart")
        self._watcher = DatabaseThreads(1, "arqonbus-watch")
        self.hub = Hub(self.loop, Memory(messages=settings.ring, size=settings.ring_bytes, total=settings.ring_total))
        self.broker = broker_for(self.hear)
        self.clients = Clients()
        self.watch = Watch(self)
        self.broker.on_reconnect = self.watch.everywhere
        self.life = Life(self)
        self.channels = Channels(self.run_writer)
        self.streams = Streams(self.hub, self.broker, self.run_watcher, self._writer_settled)
        self.streams.on_other_log = self.watch.other_log
        self.announcer = Announcer(
            self.hub,
            self.broker,
            deliver=self.streams.committed,
            meet_inbox=self._meet_inbox,
            log_gone=self._log_gone,
        )
        self.log = LogWriter(
            self._writer_thread,
            self._apart,
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
        self.replays = Replays(self.hub, self.streams, self.run_watcher)
        self.presence: Batcher[connection_service.Operation] = Batcher(self._writer_thread, _apply)
        self.notices = Notices(self)
        self.members = Members(self)
        self.registrations = Registrations(self)
        self.access = Access(self)
        self.admission = Admission(self)
        self.system = SYSTEM
        self._rules = table()
        self._started: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        #: What :meth:`spawn` runs.
        self.short_tasks: set[asyncio.Task[None]] = set()
        self._complained = False
        #: Whether the way of each message is logged.
        self.traces = logger.isEnabledFor(logging.DEBUG)
        #: Lines about refused frames and commands: a flood of them must not become a flood of lines.
        self.refusals = Damper(rate=10.0, burst=100.0)
        #: Bytes that the unfinished messages of all who have not registered may take.
        self.strangers = Allowance(STRANGERS_BYTES)
        self.draining = False
        #: Called when the drain begins.
        self.on_drain: list[Callable[[], None]] = []
        # Counted on the path of a message.
        self.received = self.received_bytes = 0
        self.statistics = Statistics(self)
        # Frames that are being worked on.
        self.busy = 0

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make ready: rooms, sign of life, listener. Called by each connection; the first one does it.

        Raises ``BusError`` UNAVAILABLE while the database does not answer; the next connection tries again.
        """
        if self._started is None or (self._started.done() and self._started.exception() is not None):
            self._started = asyncio.ensure_future(self._start())
        await asyncio.shield(self._started)

    async def _start(self) -> None:
        def prepare() -> tuple[list[node_service.Left], list[str]]:
            seed.release()
            seed.seed_hardcoded()
            self.access.begin()
            table().refresh()
            node_service.started(self.id, self.host, os.getpid(), VERSION)
            crashed = node_service.sweep_crashed(self.host, own)
            node_service.sweep_dead(max(LONG_DEAD, self.settings.node_timeout))
            return crashed, node_service.others(self.id) if in_memory_layer() else []

        own = [node.id for node in apps.get_app_config("bus").loops.values()] + [self.id]  # type: ignore[attr-defined]
        try:
            crashed, others = await self.run_writer(prepare)
        except DatabaseError as problem:
            if not self._complained:
                self._complain(await asyncio.to_thread(database.first_hand, problem))
            raise unavailable() from None
        self._complained = False
        if not self._tasks:
            await self.broker.start()
            apps.get_app_config("bus").nodes.add(self)  # type: ignore[attr-defined]
            regular = [self.watch.look, self.life.show, self.life.tidy, self.access.look, self.admission.look]
            if self.settings.stats_interval:
                regular.append(self.statistics.report)
            if self.settings.telemetry_interval:
                regular.append(self.statistics.announce)
            for work in regular:
                self._tasks.append(asyncio.ensure_future(self._again(work)))
            self.notices.lost(crashed)
            if others:
                logger.warning(
                    "This database is served by %s too; the two cannot tell each other of new messages. %s",
                    others[0],
                    LAYER_HINT,
                    extra={"event": "not_alone", "node": self.id},
                )
            sigterm.install(self.loop, self.stop)
            if django_settings.DEBUG:
                logger.warning("%s", development_notice(), extra={"event": "development_mode"})
            logger.info(
                "ArqonBus %s is up, as node %s", VERSION, self.id, extra={"event": "node_started", "node": self.id}
            )

    def _complain(self, problem: DatabaseError) -> None:
        """Say why the node does not start, and what to do."""
        self._complained = True
        logger.error(
            "%s The next connection tries again.",
            database.in_words(problem),
            extra={"event": "not_started", "node": self.id},
        )

    async def stop(self) -> None:
        """End in order: accepted work is done and acked, sockets are closed with 4012, presence is cleared.

        It takes ``drain_timeout`` and 3 seconds at most; what comes in meanwhile is refused with RESTARTING.
        """
        if self.draining:
            return
        self.draining = True
        for begun in self.on_drain:
            begun()
        logger.info("draining %d connections", len(self.clients.by_connection), extra={"event": "drain"})
        await drain.within(self.settings.drain_timeout, drain.finish_work(self), "accepted work")
        await drain.within(1.0, drain.close_sockets(self), "closing handshakes")
        for task in self._tasks:
            task.cancel()
        self.access.stop()
        self.streams.stop()
        await drain.within(1.0, drain.say_goodbye(self), "presence")
        self.notices.stop()
        apps.get_app_config("bus").nodes.discard(self)  # type: ignore[attr-defined]
        await self.broker.stop()
        closing = [done for threads in self._threads() for done in threads.end()]
        await drain.within(1.0, drain.all_done(closing), "database connections")
        logger.info("node %s stopped", self.id, extra={"event": "node_stopped", "node": self.id})

    def _threads(self) -> Sequence[DatabaseThreads]:
        return self._writer_thread, self._apart, self._reader, self._asker, self._watcher

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a service that reads little in the thread for that."""
        return await self.loop.run_in_executor(self._reader, database_read, function, *args)

    async def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a service that may look through many rows in a thread where it holds up nobody but others like it."""
        return await self.loop.run_in_executor(self._asker, database_read, function, *args)

    async def run_watcher(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a service in the thread that looks after the streams."""
        return await self.loop.run_in_executor(self._watcher, database_read, function, *args)

    async def run_writer(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a service in the writing thread, in turn with the log's commits."""
        return await self.loop.run_in_executor(self._writer_thread, database_call, function, *args)

    async def _writer_settled(self) -> None:
        """Return once the transaction that runs now, if any, and its callbacks are done."""
        await self.loop.run_in_executor(self._writer_thread, lambda: None)
        await asyncio.sleep(0)
        await self.log.landed()

    # --- rights -------------------------------------------------------------------------------------------------

    def may(self, client: ClientState, action: str, ref: ChannelRef) -> bool:
        """:func:`bus.auth.permissions.can`, remembered by the connection while the rules stay as they are."""
        rules = self._rules
        version = rules.version
        if client.rules_version != version:
            client.allowed.clear()
            client.rules_version = version
        key = (action, ref.id)
        allowed = client.allowed.get(key)
        if allowed is None:
            if len(client.allowed) >= REMEMBERED_RIGHTS:
                client.allowed.clear()
            allowed = client.allowed[key] = can(
                client.actor, action, ref.address, private=ref.private, rules=rules.loaded
            )
        return allowed

    def refusal(self, client: ClientState, action: str, ref: ChannelRef) -> BusError:
        """The error for a connection that may not, which hides what it may not know of."""
        try:
            require(client.actor, action, ref.address, private=ref.private, rules=self._rules.loaded)
        except BusError as problem:
            return problem
        return BusError(ErrorCode.FORBIDDEN)

    def check(self, client: ClientState, action: str, ref: ChannelRef) -> None:
        """Raise ``BusError`` FORBIDDEN (or not found, for what is hidden) unless the connection may."""
        if not self.may(client, action, ref):
            raise self.refusal(client, action, ref)

    # --- notifications -----------------------------------------------------------------------------------------------

    def hear_threadsafe(self, notification: notifications.Notification, *, pass_on: bool) -> None:
        """As :meth:`hear`, from another thread of this process; with ``pass_on`` also notify the other processes."""

        def in_loop() -> None:
            self.hear(notification)
            if pass_on:
                self.announcer.count(notification)
                self.broker.send(notification)

        try:
            self.loop.call_soon_threadsafe(in_loop)
        except RuntimeError:  # the loop is closed; there is nobody left to tell
            logger.debug("a notification for a stopped node")

    def hear(self, notification: notifications.Notification) -> None:
        """Act on a notification of another process, or of other code of this one."""
        if isinstance(notification, notifications.Published):
            for channel_id, room, channel, epoch, seq, frame in notification.messages:
                if room == INBOX_ROOM and (client := self.clients.by_id.get(channel)) is not None:
                    self.watch.attach_inbox(client, channel_id, epoch)
                self.streams.committed(channel_id, seq, frame)
        elif isinstance(notification, notifications.EphemeralPublished):
            self.announcer.receive_ephemeral(notification)
        elif isinstance(notification, notifications.PresenceNotice):
            self.notices.deliver(notification.channel_id, notification.frame)
        elif isinstance(notification, notifications.ChannelChanged):
            self.changed(notification)
        elif isinstance(notification, notifications.AccessChanged):
            self.access.hear(notification.subject, notification.id)
        elif isinstance(notification, notifications.Dismiss):
            for client in self._dismissed(notification):
                client.drop(notification.close_code, BusError(notification.code, notification.message))

    def _dismissed(self, notification: notifications.Dismiss) -> list[ClientState]:
        """The connections of this process that a dismissal closes."""
        one = self.clients.by_connection.get(notification.connection_id)
        current = self.clients.by_id.get(notification.client_id)
        if notification.before is None:
            found = one if notification.connection_id else current
            return [found] if found is not None else []
        # Notifications may overtake one another: whoever has the id by a later claim stays.
        return [client for client in {one, current} if client is not None and client.order < notification.before]

    def changed(self, notification: notifications.ChannelChanged) -> None:
        """A channel changed or went, or (with an empty channel) a whole room changed."""
        if notification.channel:
            self.channels.forget(Address(notification.room, notification.channel))
        else:
            self.channels.forget_room(notification.room)
        self.clients.forget_permissions()
        if notification.deleted:
            self.members.drop_stream(notification.deleted, None)

    def _meet_inbox(self, ref: ChannelRef, epoch: str) -> None:
        """An inbox gets its stream when the first letter for a client that is here comes."""
        client = self.clients.by_id.get(ref.address.channel)
        if client is not None:
            self.watch.attach_inbox(client, ref.id, epoch)

    def _log_gone(self, ref: ChannelRef) -> None:
        """The channel turned out to be deleted."""
        self.channels.forget(ref.address)
        self.members.drop_stream(ref.id, None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something short beside the caller; it is held until it is done."""
        task = asyncio.ensure_future(work)
        self.short_tasks.add(task)
        task.add_done_callback(self.short_tasks.discard)

    # --- what is done again and again ----------------------------------------------------------------------------------

    async def _again(self, work: Callable[[], Awaitable[float]]) -> None:
        """Call ``work`` for as long as the node lives; it returns the seconds until the next time."""
        while True:
            try:
                pause = await work()
            except DatabaseError as problem:
                logger.debug("heartbeat: %s", problem)
                pause = 0.5
            except Exception:
                logger.exception("heartbeat failed", extra={"event": "heartbeat_failed"})
                pause = 1.0
            await asyncio.sleep(pause)


def _apply(operations: Sequence[connection_service.Operation]) -> list[Any]:
    result: list[Any] = database_call(connection_service.apply, operations)
    return result


def running() -> Node | None:
    """The node of the running loop, if it has one."""
    loop = asyncio.get_running_loop()
    nodes: set[Node] = apps.get_app_config("bus").nodes  # type: ignore[attr-defined]
    return next((node for node in nodes if node.loop is loop), None)


def current() -> Node:
    """The node of the running loop, made on first use; ``await node.start()`` before using it."""
    nodes: dict[asyncio.AbstractEventLoop, Node] = apps.get_app_config("bus").loops  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    node = nodes.get(loop)
    if node is None:
        for old in [old for old in nodes if old.is_closed()]:
            del nodes[old]
        node = nodes[loop] = Node()
    return node
