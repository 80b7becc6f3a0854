"""Signs of life of a process, what it writes down of its connections, and tidying up."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import Error as DatabaseError

from ... import log
from ...db import faults as database
from ...directory.channels import ChannelRef
from ...protocol.errors import TAKEN_OVER, BusError, ErrorCode
from ...protocol.state import State
from ...services import connections as connection_service
from ...services import nodes as node_service
from ...services import sweeping
from ...version import VERSION
from ..client import ClientState
from .drain import send_away

if TYPE_CHECKING:
    from ..node import Node

logger = logging.getLogger("arqonbus.node")

#: Messages, and remembered ids, that are removed in one transaction; publishers go on in between.
PRUNE_STEP = 1000
#: Time between looks for what is to be tidied, in seconds.
HOUSEKEEP = 15.0
#: Time between writing down who was active when, in seconds.
TOUCH = 10.0
#: Signs of life in a row that fail before the database is said to be away.
MISSES = 2


class Life:
    """Keeps what the database says of a node true, and sweeps what others left behind."""

    def __init__(self, node: Node) -> None:
        self._node = node
        #: Ends of connections that the store would not take; tried again with each sign of life.
        self.owed: list[tuple[connection_service.Release, dict[str, Any], Sequence[ChannelRef]]] = []
        #: Connections (by id) of whose end the others told when they gave this process up.
        self.given_up: set[str] = set()
        #: Processes of the bus; looked at where a limit is shared among them.
        self.processes = 1
        # Since when our signs of life have been regular: only then others' silence means something.
        self._regular_since: float | None = None
        self._last_life = 0.0
        # Signs of life in a row that the database did not take.
        self._misses = 0
        self._next_touch = self._next_prune = self._next_tidy = 0.0
        # Whether it was said that no file can be opened.
        self._without_files = False
        self._strangers: set[str] = set()

    async def show(self) -> float:
        """Say that this process lives, and end what is owed; returns the seconds until the next time."""
        node = self._node
        settings = node.settings
        passed = node.announcer.passed
        self._look_at_files()
        try:
            alive = await node.run_writer(
                node_service.beat,
                node.id,
                node.host,
                os.getpid(),
                VERSION,
                node.statistics.figures(),
                {"messages": passed},
            )
        except DatabaseError as problem:
            await self._missed(problem)
            raise
        self._misses = 0
        node.log.heard()
        node.announcer.passed -= passed
        if settings.connections_per_principal:
            self.processes = len(await node.run(node_service.alive_ids))
        now = node.loop.time()
        if self._regular_since is None or now - self._last_life > 2 * settings.node_heartbeat + 1:
            self._regular_since = now
        self._last_life = now
        if not alive:
            logger.warning(
                "the others had given this process up; its clients come back", extra={"event": "node_revived"}
            )
            self.given_up.update(
                client.connection_id for client in node.clients.by_connection.values() if client.claimed
            )
            await self._send_away(list(node.clients.by_connection.values()))
        owed, self.owed = self.owed, []
        for release, card, refs in owed:
            if not await node.members.release(release, card, refs):
                self.owed.append((release, card, refs))
        if now >= self._next_touch:
            self._next_touch = now + TOUCH
            touched = {
                client.connection_id: client.last_active()
                for client in node.clients.by_connection.values()
                if client.touched
            }
            if touched:
                await node.run_writer(connection_service.touch, touched)
        # After an outage of the database everybody's last sign of life is old; the living need a moment to give a new one.
        if now - self._regular_since >= settings.node_timeout:
            node.notices.lost(await node.run_writer(node_service.sweep_dead))
        return settings.node_heartbeat

    def _look_at_files(self) -> None:
        """Say once when the process can open no file: uvloop then drops newcomers without a word of its own."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            if not self._without_files:
                logger.error(
                    "No connection is taken: raise the limit of open files (LimitNOFILE, ulimit -n)",
                    extra={"event": "no_files"},
                )
            self._without_files = True
        else:
            self._without_files = False

    async def _missed(self, problem: DatabaseError) -> None:
        """Twice in a row is an outage, which has to be told also where nobody publishes."""
        self._misses += 1
        if self._misses == MISSES and self._node.log.available:
            problem = await asyncio.to_thread(database.first_hand, problem)
        if self._misses >= MISSES:
            self._node.log.lost(problem)

    async def _send_away(self, clients: Sequence[ClientState]) -> None:
        """Have connections come back because what is written down of them is not true any more."""
        await send_away(clients, self._node.settings.retry_spread, "Your presence was lost; come back.")

    async def compare_presence(self) -> None:
        """What is written down of our connections is what there is, whatever was lost on the way."""
        node = self._node
        written: set[str] = await node.run(node_service.connections_of, node.id)
        here = {
            client.connection_id: client
            for client in node.clients.by_connection.values()
            if client.state is State.REGISTERED
        }
        strangers = (written ^ here.keys()) - {release.connection_id for release, _, _ in self.owed}
        # What is on its way now is settled at the next look.
        settled, self._strangers = strangers & self._strangers, strangers
        lost = [here[connection_id] for connection_id in settled if connection_id in here]
        if lost:
            last = await node.run(node_service.connected_as, [client.client_id for client in lost])
            for client in [client for client in lost if last.get(client.client_id, (0, 0)) >= client.order]:
                # The notification that told of it was lost. Were it to come back, it would send the newer one away.
                lost.remove(client)
                client.drop(TAKEN_OVER, BusError(ErrorCode.TAKEN_OVER))
            await self._send_away(lost)
        for connection_id in settled - here.keys():
            if connection_id not in node.clients.by_connection:
                await node.presence.submit(connection_service.Release("", connection_id, datetime.now(UTC)))

    async def tidy(self) -> float:
        """Compare, sweep and prune; returns the seconds until the next time."""
        node = self._node
        now = node.loop.time()
        if now >= self._next_tidy:
            self._next_tidy = now + HOUSEKEEP
            node.streams.collect()
            await self.compare_presence()
        if now >= self._next_prune:
            self._next_prune = now + (node.settings.prune_interval or 1e9)
            await self._prune()
            while await node.run_writer(sweeping.sweep_clients) == sweeping.CLIENTS:
                pass
            if node.settings.channel_idle:
                await node.run_writer(sweeping.sweep_channels, node.settings.channel_idle)
                await node.run_writer(sweeping.sweep_inboxes, max(node.settings.channel_idle, 300.0))
        return min(HOUSEKEEP, node.settings.prune_interval or HOUSEKEEP)

    async def _prune(self) -> None:
        """Let go what the retention does not keep, in short transactions with the publishers' in between."""
        node = self._node
        settings = node.settings
        find = functools.partial(
            log.prunable, default_count=settings.retention_count, default_age=settings.retention_age
        )
        for channel_id, floor in await node.run(find):
            gone = PRUNE_STEP
            while gone == PRUNE_STEP:
                gone = await node.run_writer(log.drop, channel_id, floor, PRUNE_STEP)
        while await node.run_writer(log.forget_keys, settings.idempotency_window, PRUNE_STEP) == PRUNE_STEP:
            pass
