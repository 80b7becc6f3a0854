"""Vercel's UI message stream, version 1 (https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol)."""

from __future__ import annotations

import msgspec

from ...protocol.errors import BusError
from .content import Dressing


class Vercel(Dressing):
    """Vercel's UI message stream, version 1. A text becomes one message. Parts are chunks of that protocol already."""

    headers = {"x-vercel-ai-ui-message-stream": "v1"}

    def begins(self) -> None:
        """The message and its text begin."""
        if self.mode == "text":
            self._tell(type="start", messageId=self.of)
            self._begin_text()

    def _begin_text(self) -> None:
        self._tell(type="start-step")
        self._tell(type="text-start", id=self.of)

    def text(self, delta: str) -> None:
        """More of the text."""
        self._give(msgspec.json.encode({"type": "text-delta", "id": self.of, "delta": delta}), placed=True)

    def resets(self) -> None:
        """Take the content back (since version 7 of the SDK)."""
        self._tell(type="reset-step")
        if self.mode == "text":
            self._tell(type="text-start", id=self.of)

    def ends(self, state: str, payload: bytes) -> None:
        """The message ends; for ``aborted`` with an error."""
        if self.mode == "text":
            self._tell(type="text-end", id=self.of)
            self._tell(type="finish-step")
        if state == "aborted":
            self._tell(type="error", errorText="The answer was not finished.")
        elif self.mode == "text":
            metadata = {"messageMetadata": msgspec.Raw(payload)} if payload not in (b"", b"{}") else {}
            self._tell(type="finish", **metadata)
        self._give(b"[DONE]")

    def fails(self, error: BusError) -> None:
        """The message ends with an error. A client that asks again gets all of it."""
        self._tell(type="error", errorText=error.message)
        self._give(b"[DONE]")
