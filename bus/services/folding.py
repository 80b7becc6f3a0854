"""Folded history: each streamed message of a page is one message, with its content, its state and its end's payload.

Each message has its amendments in it (``amendments``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..log import streamed
from ..log.effects import OPEN, TEXT, StreamState
from ..log.pages import Found
from ..log.snapshots import Whole, wholes
from ..models import Message, Stream
from ..protocol.growing import STREAM_END
from ..protocol.kept import legible
from .amendments import Amendments

#: What the frames of openings and ends have, and few others.
MARK = b'"stream":{'


class _Head(msgspec.Struct):
    """The keys of a frame that tell openings and ends apart from other messages."""

    id: str
    type: str
    stream: msgspec.Raw
    of: str | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Folding:
    """The streams and the amendments of a page of history.

    ``searching`` says that the page was searched for a text. With ``at_end``, amendments stay messages of their own.
    """

    def __init__(
        self, found: Sequence[Found], most_bytes: int, *, searching: bool = False, at_end: bool = False
    ) -> None:
        self._found = found
        self._amendments = None if at_end else Amendments(found, searching=searching)
        # By the position of a message in the page: the uid of the stream that it opens or ends.
        self._openings: dict[int, str] = {}
        self._ends: dict[int, str] = {}
        for position, message in enumerate(found):
            if MARK in message.frame:
                self._note(position, message.frame)
        uids = {*self._openings.values(), *self._ends.values()}
        rows = Stream.objects.filter(uid__in=uids) if uids else Stream.objects.none()
        self._streams = {state.uid: state for state in streamed.states(rows)} if uids else {}
        self._sizes = dict(rows.values_list("uid", "bytes")) if self._streams else {}
        #: How many messages of the page fit into ``most_bytes`` with the contents of their streams; at least one.
        self.fitting = self._count(most_bytes)

    def _note(self, position: int, frame: bytes) -> None:
        try:
            head = _decode_head(frame)
        except msgspec.DecodeError:
            return
        if head.type == STREAM_END and head.of is not None:
            self._ends[position] = head.of
        elif bytes(head.stream)[:1] == b"{":
            self._openings[position] = head.id

    def _count(self, most_bytes: int) -> int:
        total = 0
        for position, message in enumerate(self._found):
            if self._amendments is not None:
                total += self._amendments.size(message)
            if position not in self._ends:
                total += len(message.frame) + self._sizes.get(self._openings.get(position, ""), 0)
            elif self._stream(self._ends, position) is None:
                total += len(message.frame)
            else:
                total += self._sizes.get(self._ends[position], 0)
            if total > most_bytes and position:
                return position
        return len(self._found)

    def _stream(self, named: dict[int, str], position: int) -> StreamState | None:
        """Return the stream that the message at a position opens or ends; None for other messages and for pruned streams."""
        state = self._streams.get(named.get(position, ""))
        return state if state is not None and state.channel_id == self._found[position].channel_id else None

    def folded(self, *, filtered: bool) -> list[Found]:
        """Return the page with one message for each stream, and each message with its amendments.

        Without a filter, an end is left out: its stream stands at the place of its opening. In a ``filtered`` page the end
        may be the only match, so its stream stands there unless the page has its opening. An end whose opening was pruned
        stays as it is.
        """
        here = {state.id for p in self._openings if (state := self._stream(self._openings, p)) is not None}
        alone = {
            p: state for p in self._ends if (state := self._stream(self._ends, p)) is not None and state.id not in here
        }
        openings = _openings(list(alone.values())) if filtered and alone else {}
        contents = wholes(here | {state.id for state in alone.values()} if filtered else here)
        page: list[Found] = []
        for position, message in enumerate(self._found):
            opened = self._stream(self._openings, position)
            ended = self._stream(self._ends, position)
            if opened is not None and opened.id in contents:
                page.append(_whole(message, contents[opened.id]))
            elif ended is None or (filtered and ended.id not in here and ended.id not in openings):
                page.append(message)
            elif filtered and ended.id in openings and ended.id in contents:
                page.append(_whole(openings[ended.id], contents[ended.id]))
        return page if self._amendments is None else self._amendments.folded(page)

    def ended(self) -> list[Found]:
        """Return the page with each streamed message in the place of its end. One that still grows is left out.

        Whoever reads on from a place gets each streamed message once, whole, and waits for none that grows. An end whose
        opening was pruned stays as it is.
        """
        ends = {p: state for p in self._ends if (state := self._stream(self._ends, p)) is not None}
        openings = _openings(list(ends.values())) if ends else {}
        contents = wholes({state.id for state in ends.values()}) if ends else {}
        page: list[Found] = []
        for position, message in enumerate(self._found):
            state = ends.get(position)
            if state is not None and state.id in openings and state.id in contents:
                whole = _whole(openings[state.id], contents[state.id])
                page.append(msgspec.structs.replace(whole, seq=message.seq))
            elif self._stream(self._openings, position) is None:
                page.append(message)
        return page


def _openings(states: Sequence[StreamState]) -> dict[int, Found]:
    """Return the opening messages of streams, by the ids of the streams."""
    found: dict[int, Found] = {}
    for state in states:
        rows = Message.objects.filter(channel_id=state.channel_id, seq=state.seq)
        for at, key, frame in rows.values_list("created_at", "id", "frame"):
            found[state.id] = Found(at, key, state.channel_id, state.seq, legible(frame.encode(), state.seq))
    return found


def _whole(opening: Found, whole: Whole) -> Found:
    """Return the opening with the content and the state of its stream."""
    (state, data), payload = whole
    told: dict[str, Any] = {"mode": state.mode, "state": state.state, "parts": state.have}
    if state.state != OPEN:
        told["end_seq"] = state.end_seq
    frame = _decode(opening.frame)
    frame["stream"] = msgspec.Raw(msgspec.json.encode(told))
    if state.mode == TEXT:
        frame["message"] = msgspec.Raw(b'"%b"' % data)
    else:
        frame["parts"] = msgspec.Raw(b"[%b]" % data)
    if payload is not None:
        frame["end_payload"] = msgspec.Raw(payload)
    return msgspec.structs.replace(opening, frame=msgspec.json.encode(frame))
