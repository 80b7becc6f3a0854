"""AG-UI's events (https://docs.ag-ui.com/concepts/events)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ...protocol.errors import BusError
from .content import Dressing, Position, Run

#: What AG-UI's events open, with the event that closes it and the key of its name.
_CLOSINGS: Mapping[str, tuple[str, str]] = {
    "TEXT_MESSAGE_START": ("TEXT_MESSAGE_END", "messageId"),
    "TOOL_CALL_START": ("TOOL_CALL_END", "toolCallId"),
    "REASONING_MESSAGE_START": ("REASONING_MESSAGE_END", "messageId"),
    "REASONING_START": ("REASONING_END", "messageId"),
    "STEP_STARTED": ("STEP_FINISHED", "stepName"),
}
_CLOSED_BY = dict(_CLOSINGS.values())


class _AgEvent(msgspec.Struct):
    """The keys of an AG-UI event that decide whether its run is complete."""

    type: str = ""
    thread: str = msgspec.field(name="threadId", default="")
    run: str = msgspec.field(name="runId", default="")
    message_id: str = msgspec.field(name="messageId", default="")
    call_id: str = msgspec.field(name="toolCallId", default="")
    step: str = msgspec.field(name="stepName", default="")

    def named(self, key: str) -> str:
        """The value of one of the keys in ``_CLOSINGS``."""
        return {"messageId": self.message_id, "toolCallId": self.call_id, "stepName": self.step}[key]


_ag_events = msgspec.json.Decoder(_AgEvent)


class AgUi(Dressing):
    """AG-UI's events. A text becomes the run of one message. Parts are AG-UI's events already."""

    def __init__(
        self, of: str, address: str, mode: str, *, last: Position | None = None, run: Run | None = None
    ) -> None:
        super().__init__(of, address, mode, last=last, run=run)
        self._ids = {"threadId": self.run.thread or address, "runId": self.run.run or of}
        self._running = False
        # What is open: (closing type, key, name), in the order of the openings.
        self._open: dict[tuple[str, str, str], None] = {}

    def begins(self) -> None:
        """The run and its message begin."""
        if self.mode == "text":
            self._follow(msgspec.json.encode({"type": "RUN_STARTED", **self._ids}))
            self._follow(msgspec.json.encode({"type": "TEXT_MESSAGE_START", "messageId": self.of, "role": "assistant"}))

    def resumes(self, parts: list[bytes]) -> None:
        """Note what the reader has open."""
        if self.mode == "text":
            self._running = True
            self._open["TEXT_MESSAGE_END", "messageId", self.of] = None
        for part in parts:
            self._note(part)

    def text(self, delta: str) -> None:
        """More of the message."""
        event = {"type": "TEXT_MESSAGE_CONTENT", "messageId": self.of, "delta": delta}
        self._give(msgspec.json.encode(event), placed=True)

    def part(self, part: bytes) -> None:
        """The event that the part is."""
        self._follow(part, placed=True)

    def _follow(self, event: bytes, *, placed: bool = False) -> None:
        self._give(event, placed=placed)
        self._note(event)

    def _note(self, event: bytes) -> None:
        """Note what an event opens or closes."""
        try:
            seen = _ag_events.decode(event)
        except msgspec.DecodeError:
            # It is no event of AG-UI. The owner decides what the parts are.
            return
        if seen.type == "RUN_STARTED":
            self._running, self._ids = True, {"threadId": seen.thread, "runId": seen.run}
        elif seen.type in ("RUN_FINISHED", "RUN_ERROR"):
            self._running = False
            self._open.clear()
        elif seen.type in _CLOSINGS:
            closing, key = _CLOSINGS[seen.type]
            self._open[closing, key, seen.named(key)] = None
        elif seen.type in _CLOSED_BY:
            key = _CLOSED_BY[seen.type]
            self._open.pop((seen.type, key, seen.named(key)), None)

    def _close(self) -> None:
        """Close what is open, the newest first: AG-UI finishes no run before."""
        for closing, key, name in reversed(self._open):
            self._tell(type=closing, **{key: name})
        self._open.clear()

    def resets(self) -> None:
        """Take the content back: the client's messages are those of its own request again."""
        messages = list(self.run.messages)
        if self.mode == "text":
            empty = {"id": self.of, "role": "assistant", "content": ""}
            self._tell(type="MESSAGES_SNAPSHOT", messages=[*messages, empty])
        elif self._running:
            self._close()
            self._tell(type="MESSAGES_SNAPSHOT", messages=messages)
            self._tell(type="RUN_FINISHED", **self._ids, outcome={"type": "cancelled"})
            self._running = False

    def ends(self, state: str, payload: bytes) -> None:
        """The run ends: finished, cancelled (``stopped``) or failed (``aborted``)."""
        if self.mode == "parts" and not self._running and self._have:
            return
        if not self._running:
            # An empty stream of parts never began a run.
            self._tell(type="RUN_STARTED", **self._ids)
        if state == "aborted":
            self._tell(type="RUN_ERROR", message="The answer was not finished.", code="aborted")
            return
        self._close()
        more: dict[str, Any] = {"outcome": {"type": "cancelled"}} if state == "stopped" else {}
        if payload not in (b"", b"{}") and self.mode == "text":
            more["result"] = msgspec.Raw(payload)
        self._tell(type="RUN_FINISHED", **self._ids, **more)

    def fails(self, error: BusError) -> None:
        """The run fails for this reader. A client that asks again gets the rest."""
        self._tell(type="RUN_ERROR", message=error.message, code=str(error.code))
