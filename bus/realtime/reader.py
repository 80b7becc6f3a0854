"""The interface of a reader, and the part that all readers share: taking usual frames out of a stream of bytes.

A usual frame is a whole, masked, final text frame with a length in its shortest form. Every other frame goes to the server's
own parser byte for byte, in order.
"""

from __future__ import annotations

import abc
import codecs
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from .frame import unmasked
from .frame_limits import FragmentBudget, FrameLimits
from .writer import Writer

#: A usual frame of at most this many bytes is kept until all of it has come. A longer incomplete frame goes to the server.
KEPT = 4096
#: The longest text, in bytes, that a reader takes. A longer one goes to the server.
LARGEST = 65_535
#: Seconds in which a client that floods the server may take its close frame, before the connection is cut.
LINGER = 1.0

_FINAL, _OPCODE, _MASKED, _LENGTH = 0x80, 0x0F, 0x80, 0x7F
_CONTROL, _PING = 0x8, 0x9
#: The first byte of a whole text frame, and a value that is no byte.
_TEXT, _NEVER = 0x81, -1
#: A position behind all bytes that one call of ``feed`` may bring.
_BEHIND = 1 << 62

#: Handles a message at once. Returns the work that cannot be done without waiting, else None. Never raises.
OnMessage = Callable[[bytes], Any]


class Lane(Protocol):
    """The compiled path of one connection: it serves usual frames without a call of Python's for each."""

    #: The longest text, in bytes, that it takes.
    largest: int

    def take(self, data: bytes, position: int, /) -> int:
        """Serve the whole, usual frames that begin at ``position``. Return where the first frame begins that it left."""
        ...


class Place(NamedTuple):
    """Where a server's parser stands in its stream of frames."""

    #: The first byte of the frame that it reads, and the bytes of that frame that are still to come.
    first: int = 0
    left: int = 0
    #: Whether a fragmented message is unfinished once that frame is complete.
    inside: bool = False
    #: The bytes of an incomplete header.
    head: bytes = b""


class Reader(abc.ABC):
    """Stands between a connection's transport and its server's parser.

    After :meth:`begin` the owner gets each message by a plain call, in order, while nothing that came before it waits: no
    event in the server's queue, and no event that the owner still works on (``busy``). Otherwise a message goes into the
    server's queue, as the server's own events do. Work that ``on_message`` returns comes out of that queue as an event of
    type ``arqonbus.frame``.

    A reader that is not ``direct`` passes every frame to the server; it only counts frames for the limits. A frame that is not
    usual goes to the server as it comes, so the server reacts at the same moment as without a reader.
    """

    __slots__ = (
        "_budget", "_calm", "_first", "_head", "_inside", "_is_registered", "_lane", "_largest", "_left", "_limits", "_on_flood",
        "_on_message", "_parse", "_partial", "_pass_through", "_reason", "_stopped", "_usual", "_writer", "busy",
    )  # fmt: skip

    def __init__(
        self,
        parse: Callable[[bytes], None],
        *,
        direct: bool = True,
        largest: int = LARGEST,
        place: Place | None = None,
        budget: FragmentBudget | None = None,
    ) -> None:
        """``parse`` is the server's parser, which stands at ``place``. ``budget`` bounds what unregistered clients hold."""
        self._on_message: OnMessage | None = None
        self._writer: Writer | None = None
        self._lane: Lane | None = None
        # Whether there is a lane, and nothing is unfinished.
        self._calm = False
        #: Whether the owner works on an event from the server's queue.
        self.busy = False
        self._parse = parse
        # The first byte of a usual frame, and the longest text of one.
        self._usual = _TEXT if direct else _NEVER
        self._largest = min(largest, LARGEST)
        # The bytes of a usual frame that is not complete.
        self._partial = b""
        # The frame that the server's parser is in: its first byte and the bytes still to come, or the bytes of its header
        # while the header does not say the length. After `_pass_through` everything goes to the server.
        self._first, self._left, self._inside, self._head = place or Place()
        self._pass_through = False
        # Made with the first frame that is not a whole message.
        self._limits: FrameLimits | None = None
        self._is_registered: Callable[[], bool] = _never
        self._budget = budget
        self._on_flood: Callable[[str], None] | None = None
        # After a flood nothing more is read; the reason is kept for the owner.
        self._stopped = False
        self._reason = ""

    # --- for the owner ----------------------------------------------------------------------------------------------

    def begin(
        self,
        writer: Writer,
        on_message: OnMessage,
        on_flood: Callable[[str], None] | None = None,
        is_registered: Callable[[], bool] | None = None,
        lane: Lane | None = None,
    ) -> None:
        """Call ``on_message`` with each message from now on, until ``writer`` is closed.

        ``lane`` serves the usual messages instead, where the owner has one.

        ``on_flood`` is called once, with the reason, when the client exceeds the limits of ``frame_limits``; nothing more is
        read then. ``is_registered`` says whether the client has registered, which raises those limits.
        """
        self._writer, self._on_message, self._on_flood = writer, on_message, on_flood
        if lane is not None and self._usual == _TEXT:
            lane.largest = self._largest
            self._lane = lane
        if is_registered is not None:
            self._is_registered = is_registered
            if self._limits is not None:
                self._limits.ask_registered(is_registered)
        if self._stopped and on_flood is not None:
            on_flood(self._reason)

    def discard_input(self, *, flood: bool) -> None:
        """The owner closes the connection: drop the messages that wait, where the server keeps any.

        Only the client's close frame is still read; after a ``flood`` nothing is.
        """
        return

    @abc.abstractmethod
    def cut(self) -> None:
        """After a flood: read nothing more, and end the connection in :data:`LINGER` seconds."""

    def end(self) -> None:
        """The connection has ended: leave the server's objects as they were."""
        self._pass_through, self._calm = True, False
        self._on_message = self._writer = self._on_flood = self._lane = None
        self._is_registered = _never
        if self._limits is not None:
            self._limits.message_ended()
            self._limits = None
        self._detach()

    # --- for each server --------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def feed(self, data: bytes) -> None:
        """Read bytes from the transport."""

    @abc.abstractmethod
    def _detach(self) -> None:
        """Leave the server's objects as they were."""

    @abc.abstractmethod
    def _queued(self) -> int:
        """Events in the server's queue."""

    @abc.abstractmethod
    def _enqueue(self, event: dict[str, Any]) -> None:
        """Put an event into the server's queue."""

    @abc.abstractmethod
    def _closing(self) -> bool:
        """Whether the server takes no more messages."""

    # --- the stream of frames ---------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        """Take the usual frames out of ``data``; pass the others on."""
        position = 0
        if self._calm:
            # The usual case by itself: nothing is unfinished, and the lane takes all of it.
            if self._is_direct() and (position := self._lane.take(data, 0)) == len(data):  # type: ignore[union-attr]
                return
        elif self._stopped:
            return
        if self._partial:
            data, self._partial = self._partial + data, b""
        size = len(data)
        if self._left or self._head:
            position = self._continue_frame(data)
        usual, lane = self._usual, self._lane
        while position < size and not self._pass_through:
            if lane is not None and self._is_direct():
                position = lane.take(data, position)
            if size - position < 2:
                break
            first, second = data[position], data[position + 1]
            if first == usual and second >= _MASKED and not self._inside:
                length, start = second & _LENGTH, position + 6
                if length >= 126:
                    start = position + 8
                    if length == 126 and size - position < 4:
                        break
                    # A length of eight bytes, or one that is not in its shortest form, goes to the server.
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
            if self._pass_through:
                self._parse(data[position:])
            else:
                self._partial = data[position:]
        self._calm = lane is not None and not (
            self._partial or self._left or self._head or self._pass_through or self._stopped
        )

    def _pass_on(self, data: bytes, position: int) -> int:
        """Pass a frame that begins at ``position`` to the server, as far as it has come. Returns where the next one begins."""
        size, first = len(data), data[position]
        if not data[position + 1] & _MASKED:
            self._pass_through = True  # A frame without a mask is an error, which the server reports.
            return position
        if not self._count(first):
            return size
        total = _total(data[position : position + 10])
        if not total:
            self._head = data[position:]
            return self._hand_over(self._head, size)
        end = position + total
        if end > size:
            self._left = end - size
        return self._hand_over(data[position:end], min(end, size))

    def _continue_frame(self, data: bytes) -> int:
        """Pass on the bytes that belong to the server's current frame. Returns where the next frame begins."""
        size = len(data)
        if self._head:
            head = self._head + data[:10]
            if not head[1] & _MASKED:
                self._head, self._pass_through = b"", True
                return 0
            if len(self._head) == 1 and not self._count(head[0]):
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
        """Give the server a part of its current frame. Returns ``position``, or a place behind all data after a flood."""
        first = self._first
        if first & _OPCODE < _CONTROL:
            whole = not self._left and not self._head and first & _FINAL
            if not whole or self._limits is not None:
                limits = self._limits or self._new_limits()
                if whole:
                    limits.message_ended()
                elif reason := limits.hold(len(part)):
                    return self._stop(reason)
        self._parse(part)
        if self._closing():
            self._pass_through = True  # The server found an error, or the client began to close.
        return position

    def _count(self, first: int) -> bool:
        """Note the first byte of a frame for the server. Returns False when the client exceeds a limit by it."""
        self._first = first
        opcode, writer = first & _OPCODE, self._writer
        if opcode < _CONTROL:
            self._inside = not first & _FINAL
            if opcode and first & _FINAL:
                return True  # A whole message, which the limits of messages count.
        elif opcode == _PING and writer is not None and not writer.closed:
            # The server answers each ping, whether or not the client reads the answers.
            writer.check_bounds()
        limits = self._limits or self._new_limits()
        if reason := limits.count(fragment=opcode < _CONTROL, final=bool(first & _FINAL)):
            self._stop(reason)
            return False
        return True

    def _new_limits(self) -> FrameLimits:
        self._limits = limits = FrameLimits(self._is_registered, self._budget)
        return limits

    def _stop(self, reason: str) -> int:
        """Read nothing more after a flood. Returns a place behind all data."""
        self._stopped, self._reason, self._partial = True, reason, b""
        if self._on_flood is not None:
            self._on_flood(reason)
        return _BEHIND

    def _is_direct(self) -> bool:
        """Whether the owner may get the next message by a call: nothing that came before it waits."""
        writer = self._writer
        return not (writer is None or self.busy or self._inside or writer.closed or self._queued())

    def _message(self, payload: bytes) -> None:
        on_message, writer = self._on_message, self._writer
        if on_message is None or writer is None or self.busy or writer.closed or self._queued():
            self._enqueue({"type": "websocket.receive", "bytes": payload, "arqonbus.text": True})
            return
        rest = on_message(payload)
        if rest is not None:
            self.busy = True
            self._enqueue({"type": "arqonbus.frame", "frame": rest})


def _never() -> bool:
    """No client has registered before the owner says how to ask."""
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
    """Whether ``payload`` is UTF-8. If it is not, the server closes the connection."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _begins_text(payload: bytes) -> bool:
    """Whether a UTF-8 text may begin with ``payload``.

    Python's own decoder checks the second byte of a character only together with the third.
    """
    try:
        _, read = codecs.utf_8_decode(payload, "strict", False)
        rest = payload[read:]
        if len(rest) > 1:
            (rest + b"\x80" * (3 - len(rest) if rest[0] < 0xF0 else 4 - len(rest))).decode()
    except UnicodeDecodeError:
        return False
    return True
