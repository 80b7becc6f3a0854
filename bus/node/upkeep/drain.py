"""The parts of a graceful stop, each within its time (``Node.stop`` has their order)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from django.db import Error as DatabaseError

from ...protocol.errors import RESTART, BusError, ErrorCode
from ...services import nodes as node_service
from ...services import totals
from ..client import ClientState

if TYPE_CHECKING:
    from ..node import Node

logger = logging.getLogger("arqonbus.node")


async def within(seconds: float, work: Coroutine[Any, Any, None], what: str) -> None:
    """Do ``work``, or as much of it as ``seconds`` allow; ``what`` is its name in the log."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        logger.warning("%s took longer than %g s", what, seconds, extra={"event": "drain_timeout"})


async def finish_work(node: Node) -> None:
    """Until what was taken from the sockets is committed and answered."""
    # What was read from the sockets is on its way through the connections' loops; let it reach the log.
    await asyncio.sleep(0.05)
    while node.busy:  # noqa: ASYNC110 - ends with the last of many handlers
        await asyncio.sleep(0.01)
    await node.log.drained()


async def close_sockets(node: Node) -> None:
    """Send everybody away, and wait until they went, and until what telemetry tells of it is kept."""
    node.hub.flush()
    await send_away(node.clients.by_connection.values(), node.settings.retry_spread)
    while node.clients.by_connection:  # noqa: ASYNC110 - ends of sockets come from anywhere
        await asyncio.sleep(0.02)
    await node.log.drained()


async def send_away(clients: Iterable[ClientState], spread: float, message: str | None = None) -> None:
    """Have connections come back (4012), each at a time of its own within ``spread`` seconds; ``message`` tells why."""
    leaving = list(clients)
    for position, client in enumerate(leaving):
        wait = 0.5 + spread * position / len(leaving)
        client.drop(RESTART, BusError(ErrorCode.RESTARTING, message, retry_after=wait))
        if position % 100 == 99:
            await asyncio.sleep(0)


async def say_goodbye(node: Node) -> None:
    """Write down that the process is gone and with it its clients, and tell those who are left."""
    try:
        node.notices.gone(await node.run_writer(node_service.stopped, node.id))
        await node.run_writer(totals.add, {"messages": node.announcer.passed})
    except DatabaseError as problem:
        logger.warning("presence stays for others to sweep: %s", problem, extra={"event": "presence_stays"})


async def all_done(futures: Sequence[Future[None]]) -> None:
    """Until all are done, whatever came of them."""
    await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
