"""Whether the channel layer works, as far as this process knows, and the log lines about it."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from .link import RECEIVE_TIMEOUT, is_answer

logger = logging.getLogger("arqonbus.broker")

#: How long this process's own echo may take to come back through the layer, in seconds: one wait for a message, and some.
ECHO_TIMEOUT = RECEIVE_TIMEOUT + 1.0


class LinkHealth:
    """The faults of the layer. Each is one failed call; only :meth:`report_lost` says that the layer is away."""

    def __init__(self) -> None:
        self._fault = asyncio.Event()
        # The class of the last error.
        self._problem = ""
        # What the layer said instead of a message, and whether our own echo did not come back.
        self._receive_problem = ""
        self._echo_missing = self._refused = False
        #: Whether the layer's connections have to be made anew before the next try.
        self.stale = False
        self._reported = False

    @property
    def connected(self) -> bool:
        """Whether nothing failed since the layer worked last."""
        return not self._fault.is_set()

    def failed(self, problem: Exception) -> None:
        """Note that a call of the layer failed."""
        self._problem = type(problem).__name__
        self.stale |= is_answer(problem)
        self._fault.set()

    def receive_failed(self, problem: Exception) -> None:
        """Note that no message can be received."""
        self._receive_problem = f"{type(problem).__name__}: {str(problem)[:200]}"
        self._refused = is_answer(problem)
        self.failed(problem)

    def echo_sent(self) -> None:
        """Note that an echo is on its way."""
        self._echo_missing = False

    def echo_received(self) -> None:
        """Note that the layer brings messages back."""
        self._receive_problem = ""
        self._refused = False

    def echo_missing(self) -> None:
        """Note that the layer took a message and brought nothing back."""
        self._echo_missing = True
        self._fault.set()

    async def wait_for_fault(self, seconds: float) -> None:
        """Return at the next fault, or after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._fault.wait()

    def report_lost(self) -> None:
        """Log once that the layer is away."""
        if self._reported:
            return
        self._reported = True
        if self._echo_missing or self._refused:
            logger.error(
                "The channel layer accepts messages and delivers none (%s). Allow the user of REDIS_URL every command "
                "on the channels and keys of REDIS_PREFIX, also SUBSCRIBE. No message is lost: others find them in the log.",
                self._receive_problem or f"no message within {ECHO_TIMEOUT:g} s",
                extra={"event": "layer_lost"},
            )
        else:
            logger.error(
                "The channel layer does not answer (%s). Start Redis, or correct REDIS_URL. No message is lost: other "
                "processes find them in the log.",
                self._problem,
                extra={"event": "layer_lost"},
            )

    def recovered(self) -> None:
        """Note that the layer works again, and log it where its loss was logged."""
        self._fault.clear()
        if self._reported:
            self._reported = False
            logger.warning("the channel layer works again", extra={"event": "layer_back"})
