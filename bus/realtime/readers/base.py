"""Usual frames out of a stream of bytes; the others stay whole for somebody else."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...protocol.limits import TokenBucket
from ..frame import masked_frame, unmasked
from ..writers.base import Writer

#: A frame that is not complete is kept until it is when it is at most this long; a longer one is the server's.
KEPT = 4096

_FINAL, _KIND, _MASKED, _LENGTH = 0x80, 0x0F, 0x80, 0x7F
_TEXT, _CONTROL, _PING = 0x1, 0x8, 0x9

#: Pings, pongs and parts of messages that are looked at in a second, and at once. No message comes of most of them, so that the
#: limits of messages do not see them; each costs the server's parser time, and many of them memory.
OTHERS_PER_SECOND, OTHERS_AT_ONCE = 500.0, 2000.0
#: Parts of one message. The server keeps an entry for each, also for empty ones.
PARTS = 8192

#: Takes a message at once; returns what cannot be done without waiting, else None. Never raises.
Take = Callable[[bytes], Any]


class Reader(abc.ABC):
    """Stands between a connection's transport and its server's parser.

    Once :meth:`begin` was called, the owner gets messages by a plain call, in order, as long as nothing that came before
    waits: neither an event in the server's queue nor one whose work the owner still does (``busy``). Otherwise they go into
    the server's queue as its own events do. What cannot be done at once comes out of that queue as an event of type
    ``arqonbus.frame``.
    """

    __slots__ = (
        "_deaf", "_flooded", "_inside", "_kept", "_left", "_others", "_parts", "_server", "_take", "_through", "_writer", "busy",
    )  # fmt: skip

    def __init__(self, server: Callable[[bytes], None]) -> None:
        self._take: Take | None = None
        self._writer: Writer | None = None
        #: Whether the owner is at work on something that came out of the queue.
        self.busy = False
        self._server = server
        self._kept = b""
        # Bytes of a long frame that are still to be passed on; everything is, once `_through`.
        self._left = 0
        self._through = False
        # Within a message of several frames.
        self._inside = False
        self._parts = 0
        # Made with the first frame that is no usual message.
        self._others: TokenBucket | None = None
        self._flooded: Callable[[], None] | None = None
        # After a flood nothing more is read.
        self._deaf = False

    def begin(self, writer: Writer, take: Take, flooded: Callable[[], None] | None = None) -> None:
        """From now on ``take`` gets the messages, until ``writer`` is closed.

        ``flooded`` is called, once, when more frames come that are no messages than may; nothing more is read then.
        """
        self._writer, self._take, self._flooded = writer, take, flooded

    @abc.abstractmethod
    def end(self) -> None:
        """The connection is over: leave the server's object as it was."""

    @abc.abstractmethod
    def _waiting(self) -> int:
        """Events in the server's queue."""

    @abc.abstractmethod
    def _enqueue(self, event: dict[str, Any]) -> None:
        """Put an event into the server's queue."""

    @abc.abstractmethod
    def _ended(self) -> bool:
        """Whether the server takes no more messages."""

    @abc.abstractmethod
    def feed(self, data: bytes) -> None:
        """Bytes from the transport."""

    def _feed(self, data: bytes) -> None:
        """Take what is usual out of ``data``."""
        if self._deaf:
            return
        if self._kept:
            data, self._kept = self._kept + data, b""
        position, size = 0, len(data)
        if self._left:
            position = min(self._left, size)
            self._left -= position
            self._server(data[:position])
        while position < size and not self._through:
            if size - position < 2:
                break
            first, second = data[position], data[position + 1]
            length, start = second & _LENGTH, position + 6
            if length == 126:
                start = position + 8
                if size - position < 4:
                    break
                length = int.from_bytes(data[position + 2 : position + 4], "big")
            elif length == 127:
                start = position + 14
                if size - position < 10:
                    break
                length = int.from_bytes(data[position + 2 : position + 10], "big")
            if not second & _MASKED:
                self._through = True  # Not allowed; the server says so.
                break
            end = start + length
            if end > size:
                if end - position > KEPT:
                    if not self._note(first):
                        return
                    self._server(data[position:])
                    self._left = end - size
                    return
                break
            if first == _FINAL | _TEXT and length < 65_536 and not self._inside:
                payload = unmasked(data[start:end], data[start - 4 : start])
                if self._valid(payload):
                    self._message(payload)
                    position = end
                    continue
            if not self._note(first):
                return
            self._server(data[position:end])
            position = end
            if self._ended():
                self._through = True  # The server found something wrong, or the client said good-bye.
        if position < size:
            if self._through:
                self._server(data[position:])
            else:
                self._kept = data[position:]

    def _note(self, first: int) -> bool:
        """Remember what a frame for the server means for those behind it; False when too many came that are no messages."""
        kind, writer = first & _KIND, self._writer
        if kind < _CONTROL:
            self._inside = not first & _FINAL
            self._parts = self._parts + 1 if self._inside else 0
            if kind and first & _FINAL:
                return True  # A whole message, which the limits of messages count.
        elif kind == _PING and writer is not None and not writer.closed:
            # The server answers each, whether or not the peer reads.
            writer.look()
        if self._flooded is None:
            return True
        now = time.monotonic()
        if self._others is None:
            self._others = TokenBucket(OTHERS_PER_SECOND, OTHERS_AT_ONCE, now)
        if self._parts <= PARTS and not self._others.take(1.0, now):
            return True
        self._deaf, self._kept = True, b""
        self._flooded()
        return False

    def _valid(self, payload: bytes) -> bool:
        """Whether it is UTF-8; if not, the server closes."""
        try:
            payload.decode()
        except UnicodeDecodeError:
            self._through = True
            return False
        return True

    def _message(self, payload: bytes) -> None:
        take, writer = self._take, self._writer
        if take is None or writer is None or self.busy or writer.closed or self._waiting():
            self._enqueue({"type": "websocket.receive", "bytes": payload, "arqonbus.text": True})
            return
        rest = take(payload)
        if rest is not None:
            self.busy = True
            self._enqueue({"type": "arqonbus.frame", "frame": rest})


class _Open:
    """As much of an open writer as a self-test needs."""

    closed = False

    def look(self) -> None:
        """Nothing waits."""


OPEN: Any = _Open()


def sample() -> bytes:
    """What a client may send, for self-tests: usual frames, and each kind that stays the server's."""
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
    """What is wrong where the same bytes, read the ordinary way (first) and directly, did not come to the same."""
    same = results.count(results[0]) == len(results)
    return None if same else "the direct way reads other messages than the ordinary one"
