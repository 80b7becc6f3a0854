"""Daphne on uvloop, where the setting ``loop`` says so.

Daphne makes its reactor while it is imported, which the command ``daphne`` does before it loads the project. So the loop is
exchanged in the reactor that is there, before it runs.

Internals used, and no others: the attributes ``_asyncioEventloop``, ``_readers``, ``_writers``, ``_timerHandle``,
``_scheduledAt`` and ``_reschedule`` of Twisted's asyncio reactor, and asyncio's ``_default_executor``, which daphne sets for
``ASGI_THREADS``. Where one is missing, the reactor keeps its loop and one line of the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from django.core.exceptions import ImproperlyConfigured

logger = logging.getLogger("arqonbus.node")

_USED = ("_asyncioEventloop", "_readers", "_writers", "_timerHandle", "_scheduledAt", "_reschedule", "running")


def choose(reactor: Any, loop: str) -> None:
    """Give a reactor that does not run yet the loop that the setting ``loop`` names. Raises ``ImproperlyConfigured``."""
    if loop != "uvloop" or _is_uvloop(getattr(reactor, "_asyncioEventloop", None)):
        return
    try:
        import uvloop
    except ImportError:
        raise ImproperlyConfigured(
            "ARQONBUS_LOOP is uvloop, which is not installed. Run `pip install uvloop`, or set ARQONBUS_LOOP=auto."
        ) from None
    reason = why_not(reactor)
    if reason:
        logger.warning("daphne stays on asyncio: %s", reason, extra={"event": "loop_not_used", "loop": loop})
        return
    move(reactor, uvloop.new_event_loop())


def why_not(reactor: Any) -> str:
    """Return why the loop of a reactor cannot be exchanged; empty where it can."""
    missing = [name for name in _USED if not hasattr(reactor, name)]
    if missing:
        return f"Twisted's reactor has no {missing[0]}"
    return "the reactor runs already" if reactor.running else ""


def move(reactor: Any, fresh: asyncio.AbstractEventLoop) -> None:
    """Exchange the loop of a reactor that does not run. Its descriptors and timers go to the ``fresh`` one."""
    old = reactor._asyncioEventloop
    readers, writers = list(reactor._readers), list(reactor._writers)
    for reader in readers:
        reactor.removeReader(reader)
    for writer in writers:
        reactor.removeWriter(writer)
    if reactor._timerHandle is not None:
        reactor._timerHandle.cancel()
    reactor._timerHandle = reactor._scheduledAt = None
    executor = getattr(old, "_default_executor", None)
    if executor is not None:
        fresh.set_default_executor(executor)
        old._default_executor = None
    reactor._asyncioEventloop = fresh
    for reader in readers:
        reactor.addReader(reader)
    for writer in writers:
        reactor.addWriter(writer)
    reactor._reschedule()
    if not old.is_running():
        old.close()


def _is_uvloop(loop: Any) -> bool:
    return type(loop).__module__.partition(".")[0] == "uvloop"
