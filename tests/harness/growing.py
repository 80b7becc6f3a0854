"""The reader's side of a message that grows: what one reader has of each stream, and the judgement of it.

A `Growth` knows nothing of what the owner wants to say. It follows the reader's rule of docs/protocol.md and notes what
the server may never do:

1. a part that skips numbers;
2. a snapshot that goes back, or that does not begin with what was read before, unless the stream began anew (`upto` 0);
3. an end whose text does not begin with what was read before: every text that was ever shown is a prefix of the last one;
4. a part of an older attempt, or anything after the end, or a second end.

`judge` compares what all readers ended with, and what the owners said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Growth:
    """One stream as one reader has it."""

    def __init__(self, of: str) -> None:
        self.of = of
        self.mode = "text"
        self.have = 0
        """The number of the last part that was applied."""
        self.attempt = 1
        self.opening: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None
        self.pieces: list[Any] = []
        self.appends = 0
        """Parts that were applied one by one."""
        self.repeats = 0
        """Parts that came again."""
        self.snapshots = 0
        self.resets = 0
        self.problems: list[str] = []

    @property
    def content(self) -> Any:
        """All so far: a text, or in mode `parts` a list."""
        return list(self.pieces) if self.mode == "parts" else "".join(self.pieces)

    @property
    def state(self) -> str:
        """The state of the stream for this reader."""
        return "open" if self.end is None else str(self.end["stream"]["state"])

    def _wrong(self, text: str) -> None:
        self.problems.append(f"{self.of} at part {self.have}: {text}")

    def _goes_on(self, content: Any) -> bool:
        """Whether the content begins with what was read so far."""
        so_far = self.content
        if self.mode == "parts":
            return bool(content[: len(so_far)] == so_far)
        return isinstance(content, str) and content.startswith(so_far)

    def opened(self, frame: dict[str, Any]) -> None:
        """The opening message came."""
        if self.opening is not None:
            self._wrong("the opening came twice")
        self.opening = frame
        self.mode = frame["stream"]["mode"]

    def apply(self, frame: dict[str, Any]) -> None:
        """An `append` or `stream_end` came."""
        if self.end is not None:
            self._wrong(f"{frame['type']} after the end: {str(frame)[:200]}")
        elif frame["type"] == "stream_end":
            self._ended(frame)
        elif frame.get("snapshot"):
            self._snapshot(frame)
        else:
            self._part(frame)

    def _part(self, frame: dict[str, Any]) -> None:
        if "part" in frame:
            self.mode = "parts"
        n = frame["n"]
        if n <= self.have:
            self.repeats += 1
        elif n > self.have + 1:
            self._wrong(f"part {n} came")
        else:
            self.have = n
            self.appends += 1
            self.pieces.append(frame["part"] if "part" in frame else frame["delta"])

    def _snapshot(self, frame: dict[str, Any]) -> None:
        self.mode = frame["mode"]
        content = frame["parts"] if self.mode == "parts" else frame["text"]
        began_anew = frame["attempt"] > self.attempt and not self._goes_on(content)
        if began_anew:
            # Who was away sees a later part of the new attempt; who was there sees its beginning.
            self.resets += 1
        elif frame["attempt"] < self.attempt:
            self._wrong(f"a snapshot of attempt {frame['attempt']} came after one of {self.attempt}")
            return
        elif frame["upto"] < self.have or not self._goes_on(content):
            self._wrong(f"a snapshot up to {frame['upto']} does not go on from there: {str(content)[:200]}")
        if frame["upto"] and self.mode == "parts" and len(content) != frame["upto"]:
            self._wrong(f"a snapshot up to {frame['upto']} has {len(content)} parts")
        self.snapshots += 1
        self.have, self.attempt = frame["upto"], frame["attempt"]
        self.pieces = list(content) if self.mode == "parts" else [content]

    def _ended(self, frame: dict[str, Any]) -> None:
        self.mode = frame["stream"]["mode"]
        content = frame["parts"] if self.mode == "parts" else frame["message"]
        parts = frame["stream"]["parts"]
        if self.have > parts:
            self._wrong(f"the end says {parts} parts")
        if not self._goes_on(content):
            self._wrong(f"the end has another text: {str(content)[:200]} … and not {str(self.content)[:200]}")
        elif parts == self.have and content != self.content:
            self._wrong(f"the end has more text in as many parts: {str(content)[-200:]}")
        if self.opening is not None and frame["of_seq"] != self.opening["seq"]:
            self._wrong(f"the end names seq {frame['of_seq']} for an opening of {self.opening['seq']}")
        self.end = frame
        self.pieces = list(content) if self.mode == "parts" else [content]


class Watch:
    """All streams of one reader, over all of its connections; a `WireClient` takes it as its recorder."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.growths: dict[str, Growth] = {}
        self.steers: dict[str, list[dict[str, Any]]] = {}
        """For owners: the steers that were handed to it, by stream, each as the kept frame."""
        self.stops: set[str] = set()
        """For owners: the streams that somebody wants to stop."""
        self.refusals: list[dict[str, Any]] = []
        """For owners: errors of appends."""

    def growth(self, of: str) -> Growth:
        """The growth of a stream, made when it is first named."""
        return self.growths.setdefault(of, Growth(of))

    def take(self, frame: dict[str, Any]) -> None:
        """One frame came; those of no stream are passed over."""
        kind = frame.get("type")
        if (kind == "append" and "of" in frame) or kind == "stream_end":
            self.growth(frame["of"]).apply(frame)
        elif isinstance(frame.get("stream"), dict) and kind not in ("ack", "command_response"):
            self.growth(frame["id"]).opened(frame)
        elif kind == "system" and isinstance(frame.get("payload"), dict):
            payload = frame["payload"]
            if payload.get("event") == "steer":
                self.steers.setdefault(payload["of"], []).append(payload["message"])
            elif payload.get("event") == "stop_requested":
                self.stops.add(payload["of"])
        elif kind == "error":
            self.refusals.append(frame)

    # What a WireClient tells its recorder.

    def connecting(self, link: int, registration: Mapping[str, Any]) -> None:
        """A connection is about to register."""

    def disconnected(self, link: int) -> None:
        """A connection has ended."""

    def asked(self, link: int, request_id: str, parameters: Mapping[str, Any]) -> None:
        """A command was sent."""

    def invoked(self, link: int, client: str, frame: Mapping[str, Any]) -> None:
        """A message is about to be sent."""

    def received(self, link: int, frame: dict[str, Any]) -> None:
        """A frame has come."""
        self.take(frame)


def judge(watches: Iterable[Watch], said: Mapping[str, Any], *, state: str | None = "complete") -> list[str]:
    """Everything that is wrong: with what readers saw, and with what they ended with.

    `said` is what the owner of each stream said in all; every watch must have read every one of them to its end.
    """
    found: list[str] = []
    for watch in watches:
        found += [f"{watch.name}: {problem}" for growth in watch.growths.values() for problem in growth.problems]
        for of, content in said.items():
            growth = watch.growths.get(of)
            if growth is None or growth.end is None:
                found.append(f"{watch.name}: {of} has no end" + ("" if growth is None else f", {growth.have} parts"))
            elif growth.content != content:
                found.append(
                    f"{watch.name}: {of} ended with {str(growth.content)[:120]!r}… and not {str(content)[:120]!r}…"
                )
            elif state is not None and growth.state != state:
                found.append(f"{watch.name}: {of} ended {growth.state}")
    return found
