"""The node begins with the server, not with the first client, also where the server was started by its own command.

`runbus` does this itself (``servers``). Under plain ``daphne`` the reactor is asked, under plain ``uvicorn`` the lifespan
events tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import Any

from ..monitoring.log_lines import MaskSecrets, Strangers
from ..node import current
from ..protocol.errors import BusError
from .listeners import BACKLOG


def mask_access_logs() -> None:
    """Under the command ``uvicorn``: keep tokens, which its log shows with the URLs, and strangers' tracebacks out of it."""
    for name in ("uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).addFilter(MaskSecrets())
    logging.getLogger("uvicorn.error").addFilter(Strangers())


async def begin() -> None:
    """Start the loop's node. Where the database is away that is one line in the log, and each connection tries again."""
    with contextlib.suppress(BusError):
        await current().start()


def _lengthen_queues(reactor: Any) -> None:
    """Let as many connections wait on each listening socket as on those of `runbus`.

    Twisted asks for 50. When a thousand clients come back at once the kernel drops the others' attempts, and a proxy in front
    takes the process for dead. An endpoint with a longer queue of its own keeps it.
    """
    from twisted.internet.tcp import Port

    for port in reactor.getReaders():
        if isinstance(port, Port) and port.backlog < BACKLOG:
            port.socket.listen(BACKLOG)


def begin_with_daphne() -> None:
    """Under the command ``daphne``: begin when its reactor runs."""
    if "daphne.cli" not in sys.modules:
        return
    from twisted.internet import reactor

    tasks: set[asyncio.Task[None]] = set()

    def start() -> None:
        _lengthen_queues(reactor)
        task = asyncio.get_running_loop().create_task(begin())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # Not `callWhenRunning`, which is just before the loop runs.
    reactor.callLater(0, start)  # type: ignore[arg-type] # the stubs forget `self`


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI lifespan of a process: the node begins; its end is the drain's (``bus.node.upkeep.drain``)."""
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await begin()
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return
