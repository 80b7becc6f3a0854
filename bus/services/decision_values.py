"""Values of decisions that strangers send: JSON objects of a bounded size."""

from __future__ import annotations

from typing import Any

import msgspec

from ..conf.settings import config
from ..protocol.errors import BusError, ErrorCode
from ..protocol.values import holds_nul
from ..publishing.django import encoded

#: The most bytes of arguments.
MOST_ARGS = 64 * 1024
#: Levels of JSON around the arguments in a message.
ENVELOPE = 3


def object_of(value: Any, field: str) -> bytes:
    """Return the JSON of an object. Raises ``BusError`` VALIDATION_ERROR on ``field`` for another value, or for a large one."""
    if not isinstance(value, dict):
        raise invalid((field, f"`{field}` is a JSON object."))
    data = encoded(value, field, ENVELOPE)
    most = min(MOST_ARGS, config().frame_bytes // 4)
    if len(data) > most:
        raise invalid((field, f"`{field}` is larger than {most} bytes."))
    if holds_nul(value):
        raise invalid((field, "NUL characters are not allowed."))
    return data


def object_written(text: str, field: str) -> Any:
    """Return the JSON that a person wrote into a form. Raises ``BusError`` VALIDATION_ERROR on ``field`` for other text."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise invalid((field, f"`{field}` is not JSON.")) from None


def words_of(problem: BusError) -> str:
    """Return an error as people read it on a page: its message, and the faults that the message leaves out."""
    faults = (str(each["message"]) for each in problem.details or () if isinstance(each, dict) and "message" in each)
    return " ".join([problem.message, *(each for each in faults if each not in problem.message)]).replace("`", "")


def invalid(*faults: tuple[str, str]) -> BusError:
    """Return the error VALIDATION_ERROR for ``faults``, each a field and what is wrong with it."""
    details = [{"field": field, "message": message} for field, message in faults]
    return BusError(ErrorCode.VALIDATION_ERROR, faults[0][1], details)
