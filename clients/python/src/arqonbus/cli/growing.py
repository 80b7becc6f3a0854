"""Show streamed messages: in place while they grow on a terminal, and elsewhere as one line at their end."""

from __future__ import annotations

import asyncio
import sys

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from ..errors import ArqonBusError
from ..messages import Message
from . import output


class Show:
    """Shows messages. A streamed message is shown for good when it has ended."""

    def __init__(self) -> None:
        self._following: dict[asyncio.Task[None], Message] = {}
        self._live: Live | None = None
        #: Fails with the reason why a message that was followed could not be shown, such as a closed pipe.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __call__(self, message: Message) -> None:
        """Show a message, or follow it until it can be shown."""
        if message.state != "open":
            output.show_message(message)
            return
        task = asyncio.ensure_future(self._follow(message))
        self._following[task] = message
        if self._live is None and sys.stdout.isatty():
            self._live = Live(get_renderable=self._open_ones, console=output.out, refresh_per_second=10, transient=True)
            self._live.start()

    async def _follow(self, message: Message) -> None:
        task = asyncio.current_task()
        try:
            await message.ended()
        except ArqonBusError:
            pass  # The rest cannot arrive. Its state says that.
        finally:
            if task is not None:
                del self._following[task]
            if not self._following and self._live is not None:
                self._live.stop()
                self._live = None
            self._show(message)

    def _show(self, message: Message) -> None:
        try:
            output.show_message(message)
        except OSError as problem:
            if not self.broken.done():
                self.broken.set_exception(problem)

    async def finish(self) -> None:
        """Wait until all messages that grow have ended. Raises ``OSError`` if one could not be shown."""
        if self._following:
            await asyncio.wait(list(self._following))
        if self.broken.done():
            self.broken.result()

    async def stop(self) -> None:
        """Show the messages that grow as they are. Raises ``OSError`` if one could not be shown."""
        for task in list(self._following):
            task.cancel()
        await self.finish()

    def _open_ones(self) -> RenderableType:
        """Draw the messages that grow: of each the newest lines."""
        width, height = output.out.size
        lines = max(1, (height - 1) // max(1, len(self._following)) - 1)
        rows: list[RenderableType] = []
        for message in list(self._following.values()):
            # The end of a long text is what is new.
            tail = output.line_of(message).wrap(output.out, width)[-lines:]
            rows.append(Text("\n").join(tail))
        return Group(*rows)


class ShowFrames:
    """Shows each frame as one line of JSON."""

    def __init__(self) -> None:
        #: Nothing is followed, so it never fails. The call itself raises.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __call__(self, message: Message) -> None:
        """Show a frame."""
        output.message_as_json(message)

    async def finish(self) -> None:
        """Do nothing: all of it is shown."""

    async def stop(self) -> None:
        """Do nothing: all of it is shown."""
