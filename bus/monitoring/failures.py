"""Failures of the server and of the project's own code. Whoever is told of one gets the reference of its line in the log."""

from __future__ import annotations

import logging
import secrets
import traceback
from typing import Any

from ..protocol.errors import BusError, ErrorCode


def new_reference() -> str:
    """Return the reference of a new entry of the log. Whoever is told of the failure gets it too."""
    return secrets.token_hex(6)


def reported(
    logger: logging.Logger,
    what: str,
    *,
    event: str,
    detail: str = "",
    problem: BaseException | None = None,
    retry_after: float | None = None,
    **fields: Any,
) -> BusError:
    """Log a failure, and return the error INTERNAL_ERROR, which names the line in the log.

    The reference stands in the text of the line, because a project's LOGGING need not show other fields. ``detail`` ends the
    line, ``problem`` adds its traceback, and ``event`` and ``fields`` are its fields. ``retry_after`` is that of the error, in
    seconds.
    """
    reference = new_reference()
    logger.error(
        "%s (reference %s)%s",
        what,
        reference,
        f": {detail}" if detail else "",
        exc_info=problem,
        extra={**fields, "event": event, "reference": reference},
        stacklevel=2,
    )
    return BusError(ErrorCode.INTERNAL_ERROR, details=[{"reference": reference}], retry_after=retry_after)


def where(problem: BaseException) -> str:
    """Return the type of an exception and its traceback as lines of text.

    The exception's own text is left out, because it may hold data of a message.
    """
    lines = "".join(traceback.format_tb(problem.__traceback__))
    return f"{type(problem).__name__}\n{lines}".rstrip()
