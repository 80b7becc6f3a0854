"""From the events of a run to the pieces of a stream: deltas in mode ``text``, parts in mode ``parts``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Iterator
from typing import Any

from . import agui, closing, vercel
from .agui import Part, Run
from .failures import RunFailed
from .frameworks import FRAMEWORKS, Framework

#: A delta or a part.
Piece = str | Part

#: What stands between two messages of one run in a stream of text.
_BETWEEN = "\n\n"


class _Pipe:
    """The state of one `pieces`."""

    def __init__(self, mode: str, run: str, thread: str) -> None:
        self.as_text = mode == "text"
        self.run = Run(run, thread)
        self.framework: Framework | None = None
        #: The text of the error event of a run that failed.
        self.failure: str | None = None
        #: The message that the last text belongs to.
        self._message: str | None = None
        #: The last part, which says whose events they are.
        self._last: Part = {}

    def take(self, event: object) -> Iterator[Piece]:
        """Give out the pieces of one event.

        Raises: TypeError if no framework knows the event.
        """
        if isinstance(event, str) and self.as_text:
            if event:
                yield event
            return
        for part in self._parts(event):
            yield from self._piece(part)

    def finish(self) -> Iterator[Piece]:
        """Give out what closes the run.

        Raises: RunFailed if an event said that the run failed.
        """
        for part in self.run.finish():
            yield from self._piece(part)
        if self.failure is not None:
            raise RunFailed(self.failure)

    def fail(self) -> Iterator[Piece]:
        """Give out what tells readers that the run raised an error. Its text may have secrets, so readers do not get it."""
        if not self.as_text and self.failure is None:
            if agui.is_event(self._last):
                yield from self.run.fail("The run failed.")
            elif vercel.is_event(self._last):
                yield {"type": "error", "errorText": "The run failed."}

    def _parts(self, event: object) -> Iterator[Part]:
        if isinstance(event, str):
            return self.run.text("text", event)
        if self.framework is None or not self.framework.knows(event):
            known = next((kind for kind in FRAMEWORKS if kind.knows(event)), None)
            if known is None:
                return self._unknown(event)
            if type(self.framework) is not known:
                self.framework = known(self.run)
        assert self.framework is not None
        return self.framework.parts(event)

    def _unknown(self, event: object) -> Iterator[Part]:
        """Take a plain dict: any in mode parts, an event of AG-UI or of the Vercel AI SDK in mode text."""
        if isinstance(event, dict) and (not self.as_text or agui.is_event(event) or vercel.is_event(event)):
            return iter([event])
        if isinstance(event, dict) and self._is_update(event):
            return iter(())
        wanted = "strings" if self.as_text else "dicts"
        raise TypeError(
            f"A stream of mode {'text' if self.as_text else 'parts'} takes {wanted} and the events of Pydantic AI's adapters, "
            f"LangGraph and OpenAI Agents, but not {type(event).__module__}.{type(event).__qualname__}."
        )

    @staticmethod
    def _is_update(event: dict[Any, Any]) -> bool:
        """Say whether a dict looks like an update of a LangGraph node without messages, which carries no text."""
        return all(isinstance(update, dict | None) for update in event.values())

    def _piece(self, part: Part) -> Iterator[Piece]:
        self._last = part
        self.failure = self.failure or agui.failure_of(part) or vercel.failure_of(part)
        if not self.as_text:
            yield part
        elif found := agui.text_of(part) or vercel.text_of(part):
            message, text = found
            new = self._message is not None and message != self._message
            self._message = message
            yield _BETWEEN + text if new else text


async def pieces(events: AsyncIterable[object], *, mode: str, run: str, thread: str) -> AsyncGenerator[Piece, None]:
    """Give out the deltas (``mode="text"``) or the parts (``mode="parts"``) of a run.

    ``run`` and ``thread`` are the names of the run in AG-UI events: the stream's uid and its address. To close the generator
    closes the iterator of the framework, which ends the run.

    Raises: TypeError for an unknown event, RunFailed after the last piece of a run that said that it failed, and whatever the
    iterator raises.
    """
    pipe = _Pipe(mode, run, thread)
    try:
        async for event in events:
            for piece in pipe.take(event):
                yield piece
    except Exception:
        for piece in pipe.fail():
            yield piece
        raise
    finally:
        await (pipe.framework or closing).close(events)
    for piece in pipe.finish():
        yield piece


def pieces_sync(events: Iterable[object], *, mode: str, run: str, thread: str) -> Generator[Piece, None, None]:
    """Give out the deltas or the parts of a run, like `pieces`, without an event loop."""
    pipe = _Pipe(mode, run, thread)
    try:
        for event in events:
            yield from pipe.take(event)
    except Exception:
        yield from pipe.fail()
        raise
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            close()
    yield from pipe.finish()
