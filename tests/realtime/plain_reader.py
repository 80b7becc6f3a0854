"""A reader that needs no server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bus.realtime.reader import Reader


class PlainReader(Reader):
    """A reader in front of a parser alone, without a server and its queue."""

    def __init__(self, parse: Callable[[bytes], None], closed: Callable[[], bool] = lambda: False) -> None:
        super().__init__(parse)
        self.closed = closed

    def feed(self, data: bytes) -> None:
        self._feed(data)

    def cut(self) -> None: ...

    def _detach(self) -> None: ...

    def _queued(self) -> int:
        return 0

    def _closing(self) -> bool:
        return self.closed()

    def _enqueue(self, event: dict[str, Any]) -> None:
        raise AssertionError("nothing waits here")
