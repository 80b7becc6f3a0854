"""Events of the Vercel AI SDK (UI message stream, version 1): which text they carry, and whether the run failed."""

from __future__ import annotations

from .agui import Part

#: The types of events without a hyphen.
_SINGLE_WORDS = {"start", "finish", "abort", "error", "file", "done"}


def text_of(part: Part) -> tuple[str, str] | None:
    """Return the text's id and the text of an event, or None if it carries no text of the answer."""
    if part.get("type") != "text-delta" or not part.get("delta"):
        return None
    return str(part.get("id") or ""), str(part["delta"])


def failure_of(part: Part) -> str | None:
    """Return the text of the error if the event says that the run failed."""
    return str(part.get("errorText") or "The run failed.") if part.get("type") == "error" else None


def is_event(part: Part) -> bool:
    """Say whether a dict looks like such an event."""
    kind = part.get("type")
    return isinstance(kind, str) and kind.islower() and (kind in _SINGLE_WORDS or "-" in kind)
