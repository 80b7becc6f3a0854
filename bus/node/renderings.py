"""The messages of live pages as HTML. Each is rendered once in this process, for all viewers who see it in the same way."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Protocol

import msgspec
from django.db import close_old_connections

from ..monitoring import metrics
from ..monitoring.failures import new_reference
from ..monitoring.log_lines import Damper
from .runtime import Runtime

logger = logging.getLogger("arqonbus.live")

#: Bytes of frames and their HTML that are kept for viewers who come a little later.
KEPT_BYTES = 8 * 1024 * 1024
#: Messages that one call of the rendering thread takes.
BATCH = 50


class Rendered(msgspec.Struct, frozen=True):
    """The HTML of a message, which may be empty; or a reference to the log line of a failure."""

    html: str
    reference: str = ""


class Look(Hashable, Protocol):
    """How messages look. Equal looks make the same HTML of the same frame."""

    @property
    def template(self) -> str:
        """The name of the template, for the log."""

    def render(self, frame: bytes) -> str:
        """Return the HTML of a message."""


Key = tuple[Look, bytes]


class Renderings:
    """Renders messages in a thread of its own, and shares the results. Used in the event loop of the node."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._kept: OrderedDict[Key, Rendered] = OrderedDict()
        self._bytes = 0
        # How often everything was forgotten. What was begun before is not kept.
        self._forgotten = 0
        self._coming: dict[Key, asyncio.Future[Rendered]] = {}
        # A broken template fails for each message.
        self._damper = Damper(rate=0.2, burst=5.0)

    async def shared(self, look: Look, frames: Sequence[bytes]) -> list[Rendered]:
        """Return the HTML of each frame. Several calls with the same look and frame cost one rendering."""
        missing = [
            frame
            for frame in dict.fromkeys(frames)
            if (look, frame) not in self._kept and (look, frame) not in self._coming
        ]
        for start in range(0, len(missing), BATCH):
            self._begin(look, missing[start : start + BATCH])
        waits = [self._coming.get((look, frame)) or self._again((look, frame)) for frame in frames]
        return [wait if isinstance(wait, Rendered) else await asyncio.shield(wait) for wait in waits]

    async def personal(self, template: str, render: Callable[[bytes], str], frames: Sequence[bytes]) -> list[Rendered]:
        """Return the HTML of each frame for one viewer."""
        return await self._runtime.render(partial(self._render_all, template, render), list(frames))

    def forget(self) -> None:
        """Forget all HTML, as after a message was erased."""
        self._kept.clear()
        self._bytes = 0
        self._forgotten += 1

    def _begin(self, look: Look, frames: Sequence[bytes]) -> None:
        loop = self._runtime.loop
        for frame in frames:
            self._coming[look, frame] = loop.create_future()
        self._runtime.spawn(self._work(look, frames))

    async def _work(self, look: Look, frames: Sequence[bytes]) -> None:
        made: Sequence[Rendered] = ()
        forgotten = self._forgotten
        try:
            made = await self._runtime.render(partial(self._render_all, look.template, look.render), list(frames))
        finally:
            # Without results the node has stopped, and so have the viewers.
            for frame, one in zip(frames, [*made, *[Rendered("", "stopped")] * (len(frames) - len(made))], strict=True):
                self._coming.pop((look, frame)).set_result(one)
                if not one.reference and forgotten == self._forgotten:
                    self._keep((look, frame), one)

    def _again(self, key: Key) -> Rendered:
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, key: Key, one: Rendered) -> None:
        self._kept[key] = one
        self._bytes += _size(key, one)
        while self._bytes > KEPT_BYTES:
            old, gone = self._kept.popitem(last=False)
            self._bytes -= _size(old, gone)

    # --- in the rendering thread ----------------------------------------------------------------------------------------

    def _render_all(self, template: str, render: Callable[[bytes], str], frames: list[bytes]) -> list[Rendered]:
        close_old_connections()
        try:
            return [self._render(template, render, frame) for frame in frames]
        finally:
            close_old_connections()

    def _render(self, template: str, render: Callable[[bytes], str], frame: bytes) -> Rendered:
        try:
            made = Rendered(render(frame))
            metrics.fragments.inc()
        except Exception as problem:  # noqa: BLE001 - a template of the project may raise anything
            made = Rendered("", new_reference())
            metrics.fragments_failed.inc()
            left_out = self._damper.admit()
            if left_out is not None:
                self._log(template, problem, made.reference, left_out)
        return made

    @staticmethod
    def _log(template: str, problem: Exception, reference: str, left_out: int) -> None:
        # The text of an exception may hold data of the message, so only the bus's own texts are logged.
        own = f": {problem}" if type(problem).__module__.startswith("bus.") else ""
        where = "".join(traceback.format_tb(problem.__traceback__))
        logger.error(
            "a live page's template failed (reference %s): %s%s\n%s",
            reference,
            type(problem).__name__,
            own,
            where.rstrip(),
            extra={"event": "fragment_failed", "template": template, "reference": reference, "left_out": left_out},
        )


def _size(key: Key, one: Rendered) -> int:
    return len(key[1]) + len(one.html) + 200
