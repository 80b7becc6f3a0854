"""Signs of life: the process tells the database that it lives, and cleans up after processes that do not."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from django.db import Error as DatabaseError

from ...db import faults as database
from ...log import LogWriter
from ...publishing.announce import Announcer
from ...services import connections as connection_service
from ...services import nodes as node_service
from ...version import VERSION
from ..client import Clients
from ..clients.admission import Admission
from ..clients.departures import Departures
from ..clients.presence import Notices
from ..runtime import Runtime
from .drain import send_away

logger = logging.getLogger("arqonbus.node")

#: Seconds between two writings of when each client was last active.
TOUCH = 10.0
#: Heartbeats in a row that fail before the database counts as away.
MISSES = 2


class Heartbeat:
    """Writes the node's row. ``figures`` returns the figures that are written in it."""

    def __init__(
        self,
        runtime: Runtime,
        clients: Clients,
        log: LogWriter,
        announcer: Announcer,
        admission: Admission,
        departures: Departures,
        notices: Notices,
        figures: Callable[[], dict[str, Any]],
    ) -> None:
        self._runtime = runtime
        self._clients = clients
        self._log = log
        self._announcer = announcer
        self._admission = admission
        self._departures = departures
        self._notices = notices
        self._figures = figures
        # Since when the heartbeats have been regular. Only then the silence of other processes means something.
        self._regular_since: float | None = None
        self._last = 0.0
        # Heartbeats in a row that failed.
        self._misses = 0
        self._next_touch = 0.0
        # Whether the log has the line that no file can be opened.
        self._without_files = False

    async def beat(self) -> float:
        """Write a sign of life and what is due with it. Return the seconds until the next heartbeat."""
        settings, now = self._runtime.settings, self._runtime.loop.time
        ephemeral = self._announcer.passed
        self._check_files()
        try:
            alive = await self._runtime.run_writer(
                node_service.beat,
                self._runtime.node_id,
                self._runtime.host,
                os.getpid(),
                VERSION,
                self._figures(),
                {"messages": ephemeral},
            )
        except DatabaseError as problem:
            await self._missed(problem)
            raise
        self._misses = 0
        self._log.heard()
        self._announcer.passed -= ephemeral
        if settings.connections_per_principal:
            self._admission.processes = len(await self._runtime.run(node_service.alive_ids))
        if self._regular_since is None or now() - self._last > 2 * settings.node_heartbeat + 1:
            self._regular_since = now()
        self._last = now()
        if not alive:
            await self._come_back()
        await self._departures.write_again()
        await self._touch()
        # After an outage of the database every heartbeat is old. The living processes need a moment for a new one.
        if self._last - self._regular_since >= settings.node_timeout:
            self._notices.process_died(await self._runtime.run_writer(node_service.sweep_dead))
        return settings.node_heartbeat

    async def _come_back(self) -> None:
        """Close all connections, because other processes gave this one up and announced that its clients had left."""
        logger.warning(
            "the other processes had removed this process; its clients reconnect", extra={"event": "node_revived"}
        )
        clients = list(self._clients.by_connection.values())
        self._departures.announced.update(client.connection_id for client in clients if client.claimed)
        await send_away(clients, self._runtime.settings.retry_spread, "Your presence was lost. Reconnect.")

    async def _touch(self) -> None:
        """Write when each client was last active, now and then."""
        if self._last < self._next_touch:
            return
        self._next_touch = self._last + TOUCH
        everybody = self._clients.by_connection.values()
        touched = {client.connection_id: client.last_active() for client in everybody if client.touched}
        if touched:
            await self._runtime.run_writer(connection_service.touch, touched)

    def _check_files(self) -> None:
        """Log once that the process can open no file. uvloop then drops new connections without any log line."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            if not self._without_files:
                logger.error(
                    "New connections are refused: raise the limit of open files (LimitNOFILE, ulimit -n)",
                    extra={"event": "no_files"},
                )
            self._without_files = True
        else:
            self._without_files = False

    async def _missed(self, problem: DatabaseError) -> None:
        """Count a failed heartbeat. Some in a row are an outage, which is logged even without any publisher."""
        self._misses += 1
        if self._misses == MISSES and self._log.available:
            problem = await asyncio.to_thread(database.first_hand, problem)
        if self._misses >= MISSES:
            self._log.lost(problem)
