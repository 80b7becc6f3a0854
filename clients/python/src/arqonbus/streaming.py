"""The methods of a bus for streamed messages: write one, go on with one, and follow those of others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import ArqonBusError, NotFound
from .growing import Growing, Growth
from .messages import Message, split_address, stream_named
from .publishing import Publishing
from .stream import Stream, id_of
from .streams import Streams

if TYPE_CHECKING:
    from .subscription import Subscription

logger = logging.getLogger("arqonbus.client")

#: How long a reader waits for the snapshot after a missing part, in seconds. The server looks for such readers more often.
HEALING = 5.0


class Streaming(Publishing):
    """Streamed messages, as their owner and as their reader."""

    #: The streamed messages of others that grow, and those that this client writes.
    _growing: Growing
    _streams: Streams

    def stream(
        self,
        address: str | None,
        *,
        run: str | None = None,
        payload: Mapping[str, Any] | None = None,
        mode: str = "text",
        type: str = "event",
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        echo: bool | None = None,
        keep: bool = False,
        roll_up: float = 0.04,
        window: int = 256,
    ) -> Stream:
        """Write a message that grows: ``async with bus.stream("chat:42") as out: await out.write("Hello")``.

        The ``mode`` is ``text``, or ``parts`` for JSON objects. ``payload``, ``type`` and ``metadata`` are those of the opening
        message. ``run`` makes its id, so that another process with the same run goes on with the same message: it adopts it,
        and throws its text away, or appends to it with ``keep``. A run is unique on the whole bus: opening one that names a
        message of another channel raises ``StreamNotFound``. ``roll_up`` (seconds) joins the texts of that time to one part.
        At most ``window`` parts wait for their acknowledgement. See :class:`Stream`.
        """
        if run is not None and id is not None:
            raise ValueError("Give either `run` or `id`. The run makes the id.")
        of = id_of(run) if run is not None else id
        if of is not None and not of.startswith("arq_"):
            of = f"arq_{of}"  # So the server would name it.
        opening = self._content(type, None, payload, metadata, of)
        opening["stream"] = {"mode": mode}
        if address is not None:
            self._direct(opening, *split_address(address))
        self._want_echo(opening, address, echo)
        opening["ack"] = True
        return Stream(
            self,
            opening["id"],
            opening,
            mode=mode,
            keep=keep,
            roll_up=roll_up,
            window=window,
            shared=of is not None,
            place=":".join(split_address(address)) if address is not None else "",
            run=run,
        )

    def adopt_stream(self, of: str | Message, *, keep: bool = True, roll_up: float = 0.04, window: int = 256) -> Stream:
        """Go on with a streamed message of an earlier process, by its id. The earlier owner gets ``StreamLost``.

        ``keep=False`` throws the text away. ``have`` is then 0. Opening it raises ``StreamEnded``, ``StreamNotFound`` and
        ``Forbidden``.
        """
        return Stream(self, stream_named(of), None, keep=keep, roll_up=roll_up, window=window)

    def _grow(self, address: str, frame: dict[str, Any]) -> None:
        """Handle a part or a snapshot of a message that others write."""
        those = list(self._heard.hearing(address))
        # Also without a subscription: the server does not repeat it for a later one.
        growth = self._growing.append(frame, address)
        if growth.behind and growth.seq is not None and not growth.healing and any(each.grow for each in those):
            growth.healing = True
            self._spawn(self._heal(growth))
        for subscription in those:
            if not subscription.grow:
                subscription._offer(address, frame)
            elif frame.get("snapshot"):
                subscription._snapshot(frame.get("from"), growth)

    def _show_growing(self, subscription: Subscription) -> None:
        """Show a new subscription the open messages of a channel that the client was in before."""
        for growth in self._growing.of(subscription.address):
            if subscription._snapshot(growth.sender, growth):
                self._spawn(self._refill(growth))  # Its end may have been lost while nobody followed it.

    async def _heal(self, growth: Growth) -> None:
        """Read a missing part from the history, if no snapshot brings it."""
        await asyncio.sleep(HEALING)
        growth.healing = False
        if growth.behind:
            await self._refill(growth)

    async def _refill(self, growth: Growth) -> None:
        """Read from the history what a streamed message has so far, after its parts may have passed."""
        if growth.seq is None or growth.over:
            return
        try:
            rows = await self._history_frames(growth.address, after=growth.seq - 1, limit=1, fold=True)
        except NotFound:
            rows = []
        except (ArqonBusError, TimeoutError) as problem:
            logger.debug("reading the streamed message %s: %s", growth.of, problem)
            return
        found = next((row for row in rows if row.get("id") == growth.of), None)
        self._growing.refilled(growth, found)
