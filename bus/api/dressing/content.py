"""What the forms of a streamed message have in common: what the reader has, and what it lacks after the next frame."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec

from ...protocol.errors import BusError


class Event(NamedTuple):
    """One event: its data on one line, its id and its name. Empty texts mean that it has none."""

    data: bytes
    id: str = ""
    name: str = ""


class Position(NamedTuple):
    """What a reader has of a stream: parts up to ``n``, and the mark of their content (``Dressing.position``)."""

    n: int
    mark: str


#: What marks the content of a position: its characters and its checksum, in hexadecimal digits.
_MARK = re.compile(r"([0-9a-f]{1,12})\.([0-9a-f]{1,8})", re.ASCII)


class Run(msgspec.Struct):
    """The part of AG-UI's ``RunAgentInput`` that its events repeat. A client sends it as the body of its request."""

    thread: str = msgspec.field(name="threadId", default="")
    run: str = msgspec.field(name="runId", default="")
    messages: list[msgspec.Raw] = []


class _Stream(msgspec.Struct, frozen=True):
    state: str = ""
    parts: int = 0


class _Frame(msgspec.Struct):
    """The keys of the frames ``append`` and ``stream_end`` that the events need."""

    type: str = ""
    n: int = 0
    upto: int = 0
    attempt: int = 0
    snapshot: bool = False
    delta: str = ""
    text: str = ""
    part: msgspec.Raw = msgspec.Raw()
    parts: list[msgspec.Raw] = []
    stream: _Stream = _Stream()
    message: str = ""
    payload: msgspec.Raw = msgspec.Raw()


frames = msgspec.json.Decoder(_Frame)
_POSITION = re.compile(r"([0-9]{1,18})(?::([0-9a-f.]{1,40}))?", re.ASCII)


def position_of(text: str) -> Position | None:
    """The position in the text of a ``Last-Event-ID``; None for any other text. A number alone has no mark."""
    match = _POSITION.fullmatch(text)
    return Position(int(match[1]), match[2] or "") if match else None


class Dressing:
    """The frames of one stream as events of one protocol. The subclasses say what the events look like."""

    #: The headers that the protocol wants in the answer.
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, of: str, address: str, mode: str, *, last: Position | None = None, run: Run | None = None
    ) -> None:
        self.of = of
        self.address = address
        self.mode = mode
        self.run = run or Run()
        #: Whether the last event was given.
        self.over = False
        self._last = last
        self._have = 0
        self._attempt = 0
        # The characters so far (mode text), and the checksum of the content. It shows whether longer content goes on from it.
        self._characters, self._sum = 0, 0
        self._begun = False
        self._events: list[Event] = []

    @property
    def position(self) -> str:
        """What the reader has after the newest event, as an event's id: ``<n>:<mark of the content>``."""
        return f"{self._have}:{self._characters:x}.{self._sum:x}"

    def frame(self, data: bytes) -> list[Event]:
        """The events of the next frame: a part, a snapshot, or the end."""
        frame = frames.decode(data)
        self._events = []
        if frame.type == "stream_end":
            self._all(frame.stream.parts, frame.message, frame.parts)
            self.ends(frame.stream.state, bytes(frame.payload))
            self.over = True
        elif frame.snapshot:
            if frame.attempt != self._attempt or frame.upto >= self._have:
                self._attempt = frame.attempt
                self._all(frame.upto, frame.text, frame.parts)
        elif frame.n == self._have + 1:
            self._start()
            if self.mode == "text":
                self._text(frame.delta, frame.n)
            else:
                self._part(bytes(frame.part))
        return self._events

    def failed(self, error: BusError) -> list[Event]:
        """The events that tell the reader that the server ends its answer early."""
        self._events = []
        self.fails(error)
        self.over = True
        return self._events

    def _start(self) -> None:
        if not self._begun:
            self._begun = True
            self.begins()

    def _all(self, upto: int, text: str, parts: list[msgspec.Raw]) -> None:
        """Give what the reader lacks of the whole content."""
        if not self._begun and self._last is not None:
            self._resume(self._last, text, parts)
        self._start()
        if not self._goes_on(text, parts):
            self.resets()
            self._have = self._characters = self._sum = 0
        if self.mode == "text":
            self._text(text[self._characters :], upto)
        else:
            for part in parts[self._have :]:
                self._part(bytes(part))

    def _resume(self, last: Position, text: str, parts: list[msgspec.Raw]) -> None:
        """Take over the position of a reader that comes back, if it has a mark."""
        match = _MARK.fullmatch(last.mark)
        if match is None:
            return
        self._have, self._characters, self._sum = last.n, int(match[1], 16), int(match[2], 16)
        if self._goes_on(text, parts):
            self.resumes([bytes(part) for part in parts[: self._have]])
        elif self.mode == "text":
            # The reader has another text, which is taken back.
            self.resumes([])
        else:
            # Nobody knows any more what the reader's parts began.
            self._have = self._characters = self._sum = 0
            return
        self._begun = True

    def _goes_on(self, text: str, parts: list[msgspec.Raw]) -> bool:
        """Whether the content begins with what the reader has."""
        if self.mode == "text":
            begin = text[: self._characters]
            return len(begin) == self._characters and zlib.crc32(_bytes(begin)) == self._sum
        return self._have <= len(parts) and _sum_of(parts[: self._have]) == self._sum

    def _text(self, delta: str, n: int) -> None:
        self._have = n
        self._characters += len(delta)
        self._sum = zlib.crc32(_bytes(delta), self._sum)
        if delta:
            self.text(delta)

    def _part(self, part: bytes) -> None:
        self._have += 1
        self._sum = zlib.crc32(part, self._sum)
        self.part(part)

    def _give(self, data: bytes, *, placed: bool = False) -> None:
        """Add an event. One that is ``placed`` has the position as its id."""
        self._events.append(Event(data, self.position if placed else ""))

    def _tell(self, **keys: Any) -> None:
        self._give(msgspec.json.encode(keys))

    # --- what a protocol looks like -------------------------------------------------------------------------------------

    def begins(self) -> None:
        """The first events, before any content."""

    def resumes(self, parts: list[bytes]) -> None:
        """Note that the reader has the first events and these ``parts``."""

    def text(self, delta: str) -> None:
        """More text."""
        raise NotImplementedError

    def part(self, part: bytes) -> None:
        """The next part, raw JSON."""
        self._give(part, placed=True)

    def resets(self) -> None:
        """The content so far does not count any more."""

    def ends(self, state: str, payload: bytes) -> None:
        """The last events, for the state of the end. ``payload`` is the raw JSON of the end's payload, if it has one."""

    def fails(self, error: BusError) -> None:
        """The last events before the end of the stream."""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _sum_of(parts: list[msgspec.Raw]) -> int:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(bytes(part), checksum)
    return checksum
