"""What a client may send, as generated frames, and in pieces as they may arrive."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from bus.realtime.frame import masked_frame, text_frame
from bus.servers.selftest import PlainReader

MASK = b"\x0a\xf1\x80\x07"

TEXT, BINARY, CONTINUED, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def frame(payload: bytes, kind: int = TEXT, *, final: bool = True) -> bytes:
    """A client's frame."""
    return masked_frame(payload, MASK, first=(0x80 if final else 0) | kind)


#: Texts of lengths around the borders of the three forms of a header, and of what is kept of an incomplete frame.
payloads = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.sampled_from([0, 1, 125, 126, 127, 4090, 4100, 65_535, 65_536]).map(lambda size: b"x" * size),
)


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """What a client may send: texts, fragments with control frames between them, binaries, now and then something wrong."""
    parts: list[bytes] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["text"] * 6 + ["binary", "ping", "fragments", "fragments", "broken"]))
        payload = draw(payloads)
        if kind == "text":
            parts.append(frame(payload))
        elif kind == "binary":
            parts.append(frame(payload, BINARY))
        elif kind == "ping":
            parts.append(frame(payload[:125], PING))
        elif kind == "fragments":
            middle = draw(st.integers(0, len(payload)))
            parts += [
                frame(payload[:middle], final=False),
                *([frame(b"?", PING)] if draw(st.booleans()) else []),
                frame(payload[middle:], CONTINUED),
            ]
        else:
            parts.append(
                draw(
                    st.sampled_from(
                        [
                            frame(b"\xff\xfe"),  # no UTF-8
                            text_frame(b"not masked"),
                            frame(b"a", CONTINUED),  # continues nothing
                            masked_frame(b"reserved", MASK, first=0xC1),
                            frame(b"\x03\xe8bye", CLOSE) + frame(b"behind the end"),
                            frame(b"b", final=False) + frame(b"within a message"),
                        ]
                    )
                )
            )
    return b"".join(parts)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """``data`` in parts, cut at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        yield data[start:end]


def content(event: dict[str, Any]) -> bytes:
    """The message of a server's event."""
    text = event.get("text")
    return text.encode() if text is not None else event.get("bytes") or b""


class QueuedReader(PlainReader):
    """A reader with a queue that the test looks into."""

    def __init__(self) -> None:
        super().__init__(lambda data: self.passed_on.append(data))
        self.passed_on: list[bytes] = []
        self.queue: list[dict[str, Any]] = []

    def _queued(self) -> int:
        return len(self.queue)

    def _enqueue(self, event: dict[str, Any]) -> None:
        self.queue.append(event)
