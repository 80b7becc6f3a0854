"""Values of frameworks as JSON values."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

#: How deep a value may be. The bus refuses frames with more than 32 levels, and a part is inside a frame.
_DEPTH = 24


def plain(value: Any, depth: int = _DEPTH) -> Any:
    """Return a value as JSON can carry it. A model becomes its fields, and an unknown object its text."""
    if value is None or isinstance(value, bool | str | int):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if not depth:
        return str(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return plain(dump(mode="json", by_alias=True, exclude_none=True), depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [plain(item, depth - 1) for item in value]
    return str(value)


def text_of(value: Any) -> str:
    """Return a value as text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def packages_of(value: object) -> set[str]:
    """Return the names of the packages that define the type of a value, and its base types."""
    return {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
