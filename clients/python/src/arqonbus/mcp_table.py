"""The table of MCP tools, which the server of the bus wrote: names, descriptions and arguments."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from mcp.types import Tool


class Refused(Exception):
    """A call that failed. ``code`` is an error code of the bus, and the text says what the model can do."""

    def __init__(self, code: str, message: str, details: list[dict[str, Any]] | None = None) -> None:
        self.code, self.message, self.details = code, message, details or []
        super().__init__(f"{code}: {message}")


class Table:
    """The tools, and the manual of the whole bus."""

    def __init__(self) -> None:
        document = json.loads((files("arqonbus") / "mcp_tools.json").read_text(encoding="utf-8"))
        self.instructions: str = document["instructions"]
        self.tools = [Tool.model_validate(tool) for tool in document["tools"]]
        self._checks = {tool.name: Draft202012Validator(tool.input_schema) for tool in self.tools}
        self._defaults = {
            tool.name: {
                name: value["default"] for name, value in tool.input_schema["properties"].items() if "default" in value
            }
            for tool in self.tools
        }

    def __contains__(self, name: str) -> bool:
        return name in self._checks

    def read(self, name: str, arguments: dict[str, Any] | None) -> dict[str, Any]:
        """Return the checked arguments with their defaults. One that is null counts as left out. Raises :class:`Refused`."""
        given = {key: value for key, value in (arguments or {}).items() if value is not None}
        fault = best_match(self._checks[name].iter_errors(given))
        if fault is not None:
            field = ".".join(map(str, fault.path))
            message = f"Wrong arguments of {name}: {field + ': ' if field else ''}{fault.message[:300]}"
            raise Refused("VALIDATION_ERROR", message, [{"field": field, "message": fault.message[:300]}])
        return {**self._defaults[name], **given}
