"""Failures of the project's own code: workers, gates and handlers. The log says where one failed, and nothing of its data."""

from __future__ import annotations

import secrets
import traceback


def new_reference() -> str:
    """Return the reference of a new entry of the log. Whoever is told of the failure gets it too."""
    return secrets.token_hex(6)


def where(problem: BaseException) -> str:
    """Return the type of an exception and its traceback as lines of text.

    The exception's own text is left out, because it may hold data of a message.
    """
    lines = "".join(traceback.format_tb(problem.__traceback__))
    return f"{type(problem).__name__}\n{lines}".rstrip()
