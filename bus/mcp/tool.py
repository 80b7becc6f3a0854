"""One tool: what a client reads of it, and how the arguments of a call are checked."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from ..commands.base import inlined
from ..protocol.errors import BusError, ErrorCode
from ..protocol.values import holds_nul, holds_text
from .arguments import Arguments


class Tool(msgspec.Struct, frozen=True):
    """One tool. ``errors`` says for each error code what it means for a model. ``cost`` counts in requests."""

    name: str
    title: str
    description: str
    arguments: type[Arguments]
    errors: dict[ErrorCode, str]
    reads: bool = False
    #: Whether a repeated call changes nothing more.
    repeatable: bool = False
    cost: int = 1
    #: Whether `POST /mcp` has the tool. Otherwise only the server on standard streams has it.
    stateless: bool = True

    def described(self) -> dict[str, Any]:
        """The tool as a client lists it."""
        hints = {
            "readOnlyHint": self.reads,
            "destructiveHint": False,
            "idempotentHint": self.reads or self.repeatable,
            "openWorldHint": False,
        }
        return {
            "name": self.name,
            "title": self.title,
            "description": self._manual(),
            "inputSchema": _schema_of(self.arguments),
            "annotations": {"title": self.title, **hints},
        }

    def _manual(self) -> str:
        errors = "; ".join(f"{code}: {text}" for code, text in self.errors.items())
        return f"{self.description}\n\nErrors: {errors}."

    def read(self, given: Any, number: str | None = None) -> Any:
        """The checked arguments of a call. ``number`` stands in them as a text, and is out of range.

        Raises ``BusError`` VALIDATION_ERROR, which names the argument.
        """
        if given is None:
            given = {}
        if not isinstance(given, dict):
            raise self._wrong("The arguments must be an object.", "")
        values = {key: value for key, value in given.items() if value is not None}
        for key, value in values.items():
            if holds_nul(value) or holds_nul(key):
                raise self._wrong("NUL characters are not allowed.", key)
            if number is not None and holds_text({key: value}, number):
                raise self._wrong(f"{number[:40]} is out of range.", key)
        try:
            return msgspec.convert(values, self.arguments, strict=False)
        except msgspec.ValidationError as problem:
            found = _FIELD.search(str(problem))
            raise self._wrong(str(problem)[:300], found[1] or found[2] if found else "") from None

    def _wrong(self, message: str, field: str) -> BusError:
        text = f"Wrong arguments of {self.name}: {message}"
        return BusError(ErrorCode.VALIDATION_ERROR, text, [{"field": field[:80], "message": message}])


#: Where msgspec names the field in its message.
_FIELD = re.compile(r"\$\.(\w+)|field `(\w+)`")


@cache
def _schema_of(kind: type[Arguments]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, without references. An argument that may be left out need not be null."""
    schema = msgspec.json.schema(kind)
    definition = inlined(schema["$ref"], schema["$defs"])
    properties = {name: _lean(value) for name, value in definition.get("properties", {}).items()}
    return {
        "type": "object",
        "properties": properties,
        "required": definition.get("required", []),
        "additionalProperties": False,
    }


def _lean(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in schema.get("anyOf", ()) if kind.get("type") != "null"]
    lean = {**kinds[0]} if len(kinds) == 1 else {**schema}
    if schema.get("default") is not None:
        lean["default"] = schema["default"]
    else:
        lean.pop("default", None)
    return lean
