"""A graceful stop for servers without one: SIGTERM and SIGINT stop the node first, and the server after it.

Daphne drops every socket with 1006 and runs no ``disconnect()``. Uvicorn loses the answers to busy clients. Therefore the
node handles the signals from its start on. Once the sockets are closed with 4012, it calls the server's own handler.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

logger = logging.getLogger("arqonbus.node")

SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Seconds after which the server stops without the rest of the drain. Supervisors kill a process that takes much longer.
LONGEST = 9.0
#: Seconds for the closing handshakes to leave before the server closes its transports.
LINGER = 0.3


def install(loop: asyncio.AbstractEventLoop, stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let the first SIGTERM or SIGINT run ``stop`` in ``loop``, and then the handler that was there before.

    A second signal goes to the server at once. A signal that the process ignores stays ignored. Outside the main thread
    Python takes no signal handlers, so nothing is done there: the code that runs such a loop calls ``stop`` itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    begun = False

    def take_over(number: int) -> None:
        before: Any = signal.getsignal(number)

        def hand_back() -> None:
            server: Any = getattr(before, "__self__", None)
            if begun and isinstance(getattr(server, "should_exit", None), bool):
                # uvicorn's handler also notes the signal and raises it again at the end, so a clean stop would not exit with 0.
                server.should_exit = True
            elif callable(before):
                before(number, None)
            elif before is signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        async def drain() -> None:
            try:
                ending = loop.create_task(stop())
                await asyncio.wait({ending}, timeout=LONGEST)
                if ending.done():
                    ending.result()
                else:
                    logger.error("the stop takes too long; ending at once", extra={"event": "drain_failed"})
                await asyncio.sleep(LINGER)
            except Exception:
                logger.exception("the stop failed; ending at once", extra={"event": "drain_failed"})
            finally:
                hand_back()

        def handle(received: int, frame: FrameType | None) -> None:
            nonlocal begun
            if begun or loop.is_closed():
                hand_back()
                return
            begun = True
            loop.call_soon_threadsafe(lambda: tasks.add(loop.create_task(drain())))

        signal.signal(number, handle)

    tasks: set[asyncio.Task[None]] = set()
    for number in SIGNALS:
        # A shell lets its background jobs ignore SIGINT. The server would not stop after the drain on such a signal either.
        if signal.getsignal(number) is not signal.SIG_IGN:
            take_over(number)
