"""The JSON Schema for arguments that a person edits. A stranger may have written it, so its work is bounded.

Keywords whose work cannot be bounded are refused: regular expressions, addresses of other documents, and references that are
found by the way of the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import islice
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import extend
from referencing import Registry

from ..protocol.errors import BusError, ErrorCode

#: The most bytes of a schema.
MOST_BYTES = 16 * 1024
#: The most work of one validation: keywords that are evaluated, each with the values that it looks at.
MOST_WORK = 20_000
#: Faults that one answer names.
MOST_FAULTS = 20

#: Keywords of a schema that are refused, and why.
REFUSED = {
    "pattern": "regular expressions are not allowed",
    "patternProperties": "regular expressions are not allowed",
    "$id": "names of documents are not allowed",
    "$anchor": "anchors are not allowed",
    "$dynamicRef": "dynamic references are not allowed",
    "$dynamicAnchor": "dynamic references are not allowed",
    "$recursiveRef": "dynamic references are not allowed",
    "$vocabulary": "vocabularies are not allowed",
    "unevaluatedItems": "it is not supported",
    "unevaluatedProperties": "it is not supported; use `additionalProperties`",
}
#: Keywords whose value is any JSON, and no schema.
_VALUES = frozenset({"const", "enum", "default", "examples"})
#: Keywords whose value is an object with a schema for each name.
_NAMED = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})


class TooMuch(Exception):
    """The validation would take too much work."""


def checked(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema. Raises ``BusError`` VALIDATION_ERROR for one that is no JSON Schema, or that is not allowed."""
    data = msgspec.json.encode(schema)
    if len(data) > MOST_BYTES:
        raise _wrong("schema", f"The schema is larger than {MOST_BYTES} bytes.")
    for problem in _refused(schema, "$"):
        raise _wrong("schema", problem)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as problem:
        raise _wrong("schema", f"{problem.json_path}: {problem.message[:200]}") from None
    except RecursionError:
        raise _wrong("schema", "The schema nests too deeply.") from None
    return schema


def check(schema: dict[str, Any] | None, args: dict[str, Any], field: str = "args") -> None:
    """Raise ``BusError`` VALIDATION_ERROR with each fault of arguments that do not match the schema. None matches all."""
    if schema is None:
        return
    token = _work.set(_Work())
    try:
        # Without a registry of its own it would fetch unknown references from the network.
        faults = [
            {"field": field, "message": f"{fault.json_path[:200]}: {fault.message[:300]}"}
            for fault in islice(_Counting(schema, registry=Registry()).iter_errors(args), MOST_FAULTS)
        ]
    except TooMuch:
        raise _wrong(field, "The schema takes too much work for these arguments.") from None
    except Exception as problem:  # noqa: BLE001 - a schema of a stranger: an unknown reference, a circle, an odd number
        raise _wrong(field, f"The schema cannot be applied: {type(problem).__name__}.") from None
    finally:
        _work.reset(token)
    if faults:
        raise BusError(ErrorCode.VALIDATION_ERROR, "The arguments do not match the schema of the decision.", faults)


def _wrong(field: str, message: str) -> BusError:
    return BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": field, "message": message}])


def _refused(schema: Any, where: str) -> Iterator[str]:
    """Yield what is refused in a schema. Names of properties are no keywords."""
    if isinstance(schema, list):
        for position, item in enumerate(schema):
            yield from _refused(item, f"{where}[{position}]")
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in REFUSED:
            yield f"{where}: `{key}`: {REFUSED[key]}."
        elif key == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            yield f"{where}: `$ref` must begin with #."
        elif key in _NAMED and isinstance(value, dict):
            for name, part in value.items():
                yield from _refused(part, f"{where}.{key}.{name[:40]}")
        elif key not in _VALUES:
            yield from _refused(value, f"{where}.{key[:40]}")


class _Work:
    """Counts the work of one validation."""

    def __init__(self) -> None:
        self._done = 0
        self._sizes: dict[int, int] = {}

    def count(self, keyword: str, value: Any, instance: Any) -> None:
        """Count the evaluation of a keyword. Raises :class:`TooMuch`."""
        size = self._size(instance)
        # A fault repeats the instance in its text. Some keywords look at each item, or at each part of their value.
        cost = 1 + _length(value) + _length(instance) + size // 256
        if keyword in ("enum", "const"):
            cost += self._size(value) // 8
        elif keyword == "uniqueItems" and isinstance(instance, list) and not _sortable(instance):
            # Each item is compared with each other one.
            cost += len(instance) * size // 64
        self._done += cost
        if self._done > MOST_WORK:
            raise TooMuch

    def _size(self, value: Any) -> int:
        # The values outlive the validation, so no other value gets the id of one.
        known = self._sizes.get(id(value))
        if known is None:
            known = self._sizes[id(value)] = len(msgspec.json.encode(value))
        return known


def _length(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


def _sortable(items: list[Any]) -> bool:
    return all(isinstance(item, str) for item in items) or all(isinstance(item, int | float) for item in items)


_work: ContextVar[_Work] = ContextVar("_work")


def _counted(keyword: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _work.get().count(keyword, value, instance)
        return function(validator, value, instance, schema)

    return counted


_Counting: Any = extend(  # type: ignore[no-untyped-call] # of jsonschema
    Draft202012Validator,
    {keyword: _counted(keyword, function) for keyword, function in Draft202012Validator.VALIDATORS.items()},
)
