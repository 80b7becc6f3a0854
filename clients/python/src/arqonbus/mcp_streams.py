"""The streamed messages that an agent writes through MCP, one call for each piece."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from .bus import Bus
from .errors import ArqonBusError
from .messages import Message
from .owning import ABORTED, OPEN
from .stream import Stream

logger = logging.getLogger("arqonbus.mcp")

#: How long the end of the server waits until its streams are ended, in seconds.
CLOSING = 2.0


class Answers:
    """The open streams of an agent, by their ids."""

    def __init__(self) -> None:
        self._open: dict[str, Stream] = {}
        self._lock = asyncio.Lock()

    async def append(
        self,
        bus: Bus,
        *,
        address: str | None,
        of: str | None,
        text: str | None,
        end: str | None,
        payload: dict[str, Any] | None,
        adopt: bool = False,
        n: int | None = None,
        id: str | None = None,
    ) -> tuple[Stream, list[Message], bool]:
        """Open a stream or go on with one, add a text, and perhaps end it.

        Returns it, the messages that steer it, and whether the text or the end still waits for the server. ``adopt`` goes on with
        a stream that is not open here. ``n`` is the number of the piece: one that is written already is not written again. Raises
        ``ValueError`` for a stream that is not open here, or for a missing piece, and the errors of :class:`Stream`.
        """
        async with self._lock:  # Two calls of one answer keep their order.
            stream = self._open.get(of) if of is not None else None
            if stream is None and of is not None and not adopt:
                raise ValueError(
                    f"{of} is no open answer of yours. It has ended, or an earlier process wrote it: see `adopt`."
                )
            if stream is None:
                made = bus.stream(address, payload=payload, id=id) if of is None else bus.adopt_stream(of)
                stream = self._open[made.of] = await made.open()
            pending = False
            if n is not None and of is not None and n > stream.have + 1:
                raise ValueError(f"The next piece of {stream.of} is {stream.have + 1}, and not {n}.")
            repeated = n is not None and of is not None and n <= stream.have
            try:
                if text and not stream.stop_requested and not repeated:
                    await stream.write(text)
                    await stream.flush()
                if end is not None:
                    await stream.end(end, payload=payload if of is not None else None)
            except TimeoutError:
                pending = True  # The client goes on to send it. An agent that repeats it writes it twice.
            except ArqonBusError as problem:
                if of is not None or stream.state != OPEN:
                    raise
                raise ValueError(f"{problem} The answer {stream.of} is open: end it.") from problem
            finally:
                if stream.state != OPEN:
                    self._open.pop(stream.of, None)
            steers = stream.waiting_steers()
            for steer in steers:
                steer.took()  # The answer to this call gives them to the model.
            return stream, [steer.message for steer in steers], pending

    async def close(self) -> None:
        """End all open streams as aborted."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                for stream in list(self._open.values()):
                    try:
                        await stream.end(ABORTED)
                    except ArqonBusError as problem:
                        logger.debug("ending %s: %s", stream.of, problem)
