"""The steps of a graceful stop, each within its time (``Node.stop`` has their order)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import Future

from django.db import Error as DatabaseError

from ...log import LogWriter
from ...protocol.errors import RESTART, BusError, ErrorCode
from ...publishing.announce import Announcer
from ...publishing.loop import Publisher
from ...realtime.hub import Hub
from ...services import nodes as node_service
from ...services import totals
from ..client import Clients, ClientState
from ..clients.presence import Notices
from ..runtime import Runtime, Traffic

logger = logging.getLogger("arqonbus.node")


async def within(seconds: float, work: Coroutine[None, None, None], what: str) -> None:
    """Do ``work``, or as much of it as ``seconds`` allow. ``what`` is its name in the log line of a timeout."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        logger.warning("%s took longer than %g s", what, seconds, extra={"event": "drain_timeout"})


async def finish_work(traffic: Traffic, publisher: Publisher) -> None:
    """Wait until every frame that was read from the sockets is committed and answered."""
    # Let the frames that the sockets have delivered reach the log through the connections.
    await asyncio.sleep(0.05)
    while traffic.in_progress:  # noqa: ASYNC110 - ends with the last of many handlers
        await asyncio.sleep(0.01)
    await publisher.drained()


async def close_sockets(clients: Clients, hub: Hub, log: LogWriter, spread: float) -> None:
    """Close every connection, and wait until all are closed and telemetry's messages about it are committed."""
    hub.flush()
    await send_away(clients.by_connection.values(), spread)
    while clients.by_connection:  # noqa: ASYNC110 - sockets end in many places
        await asyncio.sleep(0.02)
    await log.drained()


async def send_away(clients: Iterable[ClientState], spread: float, message: str | None = None) -> None:
    """Close connections with 4012, each to come back at a time of its own within ``spread`` seconds."""
    leaving = list(clients)
    for position, client in enumerate(leaving):
        wait = 0.5 + spread * position / len(leaving)
        client.drop(RESTART, BusError(ErrorCode.RESTARTING, message, retry_after=wait))
        if position % 100 == 99:
            await asyncio.sleep(0)


async def clear_presence(runtime: Runtime, announcer: Announcer, notices: Notices) -> None:
    """Delete the node's row with those of its clients, and notify the members that are left."""
    try:
        notices.all_left(await runtime.run_writer(node_service.stopped, runtime.node_id))
        await runtime.run_writer(totals.add, {"messages": announcer.passed})
    except DatabaseError as problem:
        logger.warning(
            "cannot clear presence; the other processes will do it: %s", problem, extra={"event": "presence_stays"}
        )


async def all_done(futures: Sequence[Future[None]]) -> None:
    """Wait until all futures are done, with or without an error."""
    await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
