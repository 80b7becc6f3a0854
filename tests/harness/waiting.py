"""Waiting for something with a deadline, and ports that nobody else takes."""

from __future__ import annotations

import asyncio
import inspect
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.02
_RANDOM = random.SystemRandom()


class DeadlineExceededError(AssertionError):
    """Raised when what a test waits for has not happened in time."""


def wait_until(condition: Callable[[], T], what: str, *, deadline: float = 30.0) -> T:
    """Call `condition` until it returns something true and return that.

    `deadline` is in seconds. Raises DeadlineExceededError naming `what`; what `condition` raises passes.
    """
    end = time.monotonic() + deadline
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= end:
            raise DeadlineExceededError(f"not within {deadline:g} s: {what}")
        time.sleep(_POLL_SECONDS)


def _ephemeral_range() -> tuple[int, int]:
    """The ports that the system hands to outgoing connections (Linux), or the usual range elsewhere."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return 32768, 60999
    return int(low), int(high)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on, outside the range of outgoing connections.

    Outside, because a client that reconnects in a loop to a stopped server could otherwise be given that very
    port as its own and be connected to itself, or take it away from the server that is about to restart.
    """
    low, high = _ephemeral_range()
    candidates = range(10240, 32768) if low > 11264 else range(high + 1, 65536)
    for _ in range(200):
        port = _RANDOM.choice(candidates)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free TCP port found in 200 tries")


def accepts_connections(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens on the port."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


async def wait_for(condition: Callable[[], object], what: str, *, deadline: float = 30.0) -> None:
    """As `wait_until`, in a coroutine: the loop goes on meanwhile. `condition` may be one, too."""
    end = time.monotonic() + deadline
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return
        if time.monotonic() >= end:
            raise DeadlineExceededError(f"not within {deadline:g} s: {what}")
        await asyncio.sleep(_POLL_SECONDS)
