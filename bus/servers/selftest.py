"""Self-tests: whether a module that uses a server's internals may be used in this process.

Each test runs once; a failure is one line in the log. The samples at the end are what the tests of all servers send.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..realtime.frame import masked_frame
from ..realtime.reader import Reader

logger = logging.getLogger("arqonbus.realtime")

#: A client's opening request.
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@functools.cache
def passed(packages: tuple[str, ...], direction: str, fault: Callable[[], str | None]) -> bool:
    """Run the self-test ``fault``, which returns what is wrong, or None. Returns whether it passed.

    An exception counts as a failure, whatever another version of a server raises. ``packages`` and ``direction``
    ("received frames", "sent frames") go into the log.
    """
    try:
        found = fault()
    except Exception as problem:  # noqa: BLE001 - the line below reports it
        found = f"{type(problem).__name__}: {problem}"
    if found is None:
        return True
    logger.warning(
        "%s use the normal, slower path: %s failed the self-test of the fast path (%s)",
        direction,
        ", ".join(f"{package} {_version(package)}" for package in packages),
        found,
        extra={"event": "selftest_failed"},
    )
    return False


@functools.cache
def not_used(server: str, direction: str, reason: str) -> None:
    """Log, once for each reason, that the direct way of a known server is not used, although no setting asks for that."""
    logger.warning(
        "%s use the normal, slower path under %s: %s", direction, server, reason, extra={"event": "selftest_failed"}
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


# --- samples ----------------------------------------------------------------------------------------------------------------


class _OpenWriter:
    """As much of an open writer as a reader needs."""

    closed = False

    def check_bounds(self) -> None:
        """Nothing waits."""


OPEN: Any = _OpenWriter()


class PlainReader(Reader):
    """A reader in front of a parser alone, without a server and its queue. ``closing`` says whether the parser has ended."""

    def __init__(self, parse: Callable[[bytes], None], closing: Callable[[], bool] = bool) -> None:
        super().__init__(parse)
        self._parser_closing = closing

    def cut(self) -> None: ...

    def feed(self, data: bytes) -> None:
        self._feed(data)

    def _detach(self) -> None: ...

    def _queued(self) -> int:
        return 0

    def _closing(self) -> bool:
        return self._parser_closing()

    def _enqueue(self, event: dict[str, Any]) -> None:
        raise LookupError("the reader did not hand the message over")  # The self-test reports it.


def sample() -> bytes:
    """A stream of a client's frames: usual ones, and one of each kind that goes to the server's parser."""
    mask = b"\x0a\xf1\x80\x07"
    frames: list[tuple[bytes, int]] = [
        (b'{"a":"\xc3\xa4"}', 0x81),
        (b"", 0x81),
        (b"x" * 200, 0x81),
        (b"ping", 0x89),
        (b"in ", 0x01),
        (b"parts", 0x80),
        (b"binary", 0x82),
        (b"y" * 70_000, 0x81),
        (b"last", 0x81),
    ]
    return b"".join(masked_frame(payload, mask, first=first) for payload, first in frames)


def difference(results: Sequence[object]) -> str | None:
    """What is wrong when the same bytes gave other messages directly than the ordinary way (the first result)."""
    same = results.count(results[0]) == len(results)
    return None if same else "the fast path reads other messages than the normal path"
