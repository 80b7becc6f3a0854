"""Usual frames out of a stream of bytes; the others stay whole for somebody else."""

from __future__ import annotations

import abc
import codecs
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .frame import masked_frame, unmasked
from .odd_frames import Allowance, OddFrames
from .writer import Writer

#: A frame that is not complete is kept until it is when it is at most this long; a longer one is the server's.
KEPT = 4096
#: The longest text that is taken here; a longer one is the server's.
LARGEST = 65_535
#: Time for a flooder to take its close frame before its line is cut; seconds.
LINGER = 1.0

_FINAL, _KIND, _MASKED, _LENGTH = 0x80, 0x0F, 0x80, 0x7F
_CONTROL, _PING = 0x8, 0x9
#: The first byte of a whole text, and one that no frame begins with.
_TEXT, _NEVER = 0x81, -1

#: Takes a message at once; returns what cannot be done without waiting, else None. Never raises.
Take = Callable[[bytes], Any]


class Place(NamedTuple):
    """Where a server's parser is in its stream of frames."""

    #: The first byte of the frame under way, and the bytes of it that are still to come.
    first: int = 0
    left: int = 0
    #: Whether it is within a message of several frames once that frame is there.
    inside: bool = False
    #: What it has of a header that is not complete.
    head: bytes = b""


class Reader(abc.ABC):
    """Stands between a connection's transport and its server's parser.

    Once :meth:`begin` was called, the owner gets messages by a plain call, in order, as long as nothing that came before
    waits: neither an event in the server's queue nor one whose work the owner still does (``busy``). Otherwise they go into
    the server's queue as its own events do. What cannot be done at once comes out of that queue as an event of type
    ``arqonbus.frame``.

    A reader that is not ``quick`` hands everything on; it is there for the limits. Whatever is not a whole usual text goes to
    the server as it comes, so that the server says at the same moment what it says without a reader.
    """

    __slots__ = (
        "_allowance", "_deaf", "_first", "_flooded", "_head", "_inside", "_kept", "_known", "_largest", "_left", "_odd",
        "_server", "_take", "_through", "_usual", "_why", "_writer", "busy",
    )  # fmt: skip

    def __init__(
        self,
        server: Callable[[bytes], None],
        *,
        quick: bool = True,
        largest: int = LARGEST,
        place: Place | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self._take: Take | None = None
        self._writer: Writer | None = None
        #: Whether the owner is at work on something that came out of the queue.
        self.busy = False
        self._server = server
        # What a whole text begins with, and its most bytes.
        self._usual = _TEXT if quick else _NEVER
        self._largest = min(largest, LARGEST)
        # A usual frame that is not complete.
        self._kept = b""
        # The frame under way in the server's parser: its first byte, what is still to come of it; or what there is of its
        # header, while that does not say how long it is. Everything is the server's once `_through`.
        self._first, self._left, self._inside, self._head = place or Place()
        self._through = False
        # Made with the first frame that is no usual message.
        self._odd: OddFrames | None = None
        self._known: Callable[[], bool] = _nobody
        self._allowance = allowance
        self._flooded: Callable[[str], None] | None = None
        # After a flood nothing more is read; why it was one.
        self._deaf = False
        self._why = ""

    def begin(
        self,
        writer: Writer,
        take: Take,
        flooded: Callable[[str], None] | None = None,
        known: Callable[[], bool] | None = None,
    ) -> None:
        """From now on ``take`` gets the messages, until ``writer`` is closed.

        ``flooded`` is called, once, with the reason when more comes that is no message than may; nothing more is read then.
        ``known`` says whether the client has registered: who has not may send less of it.
        """
        self._writer, self._take, self._flooded = writer, take, flooded
        if known is not None:
            self._known = known
            if self._odd is not None:
                self._odd.knows_by(known)
        if self._deaf and flooded is not None:
            flooded(self._why)

    def end(self) -> None:
        """The connection is over: leave the server's object as it was."""
        self._through = True
        self._take = self._writer = self._flooded = None
        self._known = _nobody
        if self._odd is not None:
            self._odd.finished()
            self._odd = None
        self._leave()

    def cut(self) -> None:
        """After a flood: read nothing more, and end the line when the client had a moment to take the close frame."""
        return

    @abc.abstractmethod
    def _leave(self) -> None:
        """Leave the server's object as it was."""

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
        size = len(data)
        position = self._go_on(data) if self._left or self._head else 0
        usual = self._usual
        while position < size and not self._through:
            if size - position < 2:
                break
            first, second = data[position], data[position + 1]
            if first == usual and second >= _MASKED and not self._inside:
                length, start = second & _LENGTH, position + 6
                if length >= 126:
                    start = position + 8
                    if length == 126 and size - position < 4:
                        break
                    # A length of eight bytes, or one that is not in its shortest form, is the server's.
                    length = int.from_bytes(data[position + 2 : position + 4], "big") if length == 126 else 0
                    if length < 126:
                        length = LARGEST + 1
                if length <= self._largest:
                    end = start + length
                    if end <= size:
                        payload = unmasked(data[start:end], data[start - 4 : start])
                        if _is_text(payload):
                            self._message(payload)
                            position = end
                            continue
                    elif end - position <= KEPT and _begins_text(unmasked(data[start:], data[start - 4 : start])):
                        break
            position = self._pass_on(data, position)
        if position < size:
            if self._through:
                self._server(data[position:])
            else:
                self._kept = data[position:]

    def _pass_on(self, data: bytes, position: int) -> int:
        """Hand a frame that begins at ``position`` to the server, as far as it is there; where the next one begins."""
        size, first = len(data), data[position]
        if not data[position + 1] & _MASKED:
            self._through = True  # Not allowed; the server says so.
            return position
        if not self._note(first):
            return size
        total = _total(data[position : position + 10])
        if not total:
            self._head = data[position:]
            return self._hand_over(self._head, size)
        end = position + total
        if end > size:
            self._left = end - size
        return self._hand_over(data[position:end], min(end, size))

    def _go_on(self, data: bytes) -> int:
        """Hand on what belongs to the frame under way; where the next one begins."""
        size = len(data)
        if self._head:
            head = self._head + data[:10]
            if not head[1] & _MASKED:
                self._head, self._through = b"", True
                return 0
            if len(self._head) == 1 and not self._note(head[0]):
                return size
            total = _total(head)
            if not total:
                self._head = head
                return self._hand_over(data, size)
            self._left, self._head = total - len(self._head), b""
        position = min(self._left, size)
        self._left -= position
        return self._hand_over(data[:position], position)

    def _hand_over(self, part: bytes, position: int) -> int:
        """Hand on a part of the frame under way. Returns ``position``, or where nothing more is read then, a place behind all."""
        first = self._first
        if first & _KIND < _CONTROL:
            whole = not self._left and not self._head and first & _FINAL
            if not whole or self._odd is not None:
                odd = self._odd or self._count()
                if whole:
                    odd.finished()
                elif why := odd.waits(len(part)):
                    return self._stop(why)
        self._server(part)
        if self._ended():
            self._through = True  # The server found something wrong, or the client said good-bye.
        return position

    def _note(self, first: int) -> bool:
        """Remember what a frame for the server means for those behind it; False when too many came that are no messages."""
        self._first = first
        kind, writer = first & _KIND, self._writer
        if kind < _CONTROL:
            self._inside = not first & _FINAL
            if kind and first & _FINAL:
                return True  # A whole message, which the limits of messages count.
        elif kind == _PING and writer is not None and not writer.closed:
            # The server answers each, whether or not the peer reads.
            writer.look()
        odd = self._odd or self._count()
        if why := odd.frame(part=kind < _CONTROL, ends=bool(first & _FINAL)):
            self._stop(why)
            return False
        return True

    def _count(self) -> OddFrames:
        self._odd = odd = OddFrames(self._known, self._allowance)
        return odd

    def _stop(self, why: str) -> int:
        """Too much: nothing more is read. Returns a place behind all that may be there."""
        self._deaf, self._why, self._kept = True, why, b""
        if self._flooded is not None:
            self._flooded(why)
        return _BEHIND

    def _message(self, payload: bytes) -> None:
        take, writer = self._take, self._writer
        if take is None or writer is None or self.busy or writer.closed or self._waiting():
            self._enqueue({"type": "websocket.receive", "bytes": payload, "arqonbus.text": True})
            return
        rest = take(payload)
        if rest is not None:
            self.busy = True
            self._enqueue({"type": "arqonbus.frame", "frame": rest})


#: Behind the end of whatever is read at once.
_BEHIND = 1 << 62


def _nobody() -> bool:
    """Who has not registered yet."""
    return False


def _total(frame: bytes) -> int:
    """The length of a masked frame with its header; 0 while the header does not say it."""
    length = frame[1] & _LENGTH
    if length < 126:
        return 6 + length
    if length == 126:
        return 8 + int.from_bytes(frame[2:4], "big") if len(frame) >= 4 else 0
    return 14 + int.from_bytes(frame[2:10], "big") if len(frame) >= 10 else 0


def _is_text(payload: bytes) -> bool:
    """Whether it is UTF-8; if not, the server closes."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _begins_text(payload: bytes) -> bool:
    """Whether UTF-8 may begin so. Python's own decoder looks at the second byte of a character only with the third."""
    try:
        _, read = codecs.utf_8_decode(payload, "strict", False)
        rest = payload[read:]
        if len(rest) > 1:
            (rest + b"\x80" * (3 - len(rest) if rest[0] < 0xF0 else 4 - len(rest))).decode()
    except UnicodeDecodeError:
        return False
    return True


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
