"""The reference of the commands as a page of the documentation, made from the registry."""

from __future__ import annotations

from typing import Any

from ..commands import Command, registry
from ..protocol.errors import ERRORS, ErrorCode

#: Errors that every command can meet.
COMMON = (ErrorCode.VALIDATION_ERROR, ErrorCode.INVALID_NAME, ErrorCode.UNAVAILABLE)

HEAD = """\
# Commands

<!-- Made by `manage.py command_reference --output docs/commands.md`; a test keeps it up to date. -->

A command is a frame of type `command`; it gets exactly one answer, a `command_response` with its `request_id`
([the protocol](protocol.md#commands) has examples of both). Parameters stand in `parameters` (also spelt `args` or `params`,
at the top level or inside `payload`). A room and a channel among them win over those of the frame, and those over the pair
of your registration. The server tells the same about itself: send `help`.

Every command can also be refused with {common}.
"""


def page() -> str:
    """The whole page, in Markdown."""
    common = ", ".join(f"`{code}`" for code in COMMON)
    parts = [HEAD.format(common=common), _overview()]
    parts += [_section(registry[name]) for name in sorted(registry)]
    return "\n".join(parts)


def _overview() -> str:
    rows = [f"| [`{name}`](#{name}) | {registry[name].who} | {registry[name].summary} |" for name in sorted(registry)]
    return "\n".join(["| command | who | what it does |", "|---|---|---|", *rows, ""])


def _section(command: Command) -> str:
    described = command.describe()
    lines = [f"## {command.name}", "", command.summary, ""]
    if command.who == "admin":
        lines += ["For admins, and for those whom a grant lets manage the place; others get `FORBIDDEN`.", ""]
    if described["parameters"]:
        lines += ["| parameter | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(name, schema) for name, schema in described["parameters"].items()]
    else:
        lines.append("No parameters.")
    lines.append("")
    if command.errors:
        lines.append("Its own errors:")
        lines.append("")
        lines += [f"- `{code}` ({ERRORS[code].number}): {ERRORS[code].text}" for code in command.errors]
        lines.append("")
    return "\n".join(lines)


def _row(name: str, schema: dict[str, Any]) -> str:
    default = schema.get("default")
    shown = "" if default is None or default == "" or default == {} else f"`{_literal(default)}`"
    return f"| `{name}` | {_type(schema)} | {shown} | {schema.get('description', '')} |"


def _literal(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _type(schema: dict[str, Any]) -> str:
    """A schema's type in words."""
    if "anyOf" in schema:
        kinds = [_type(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(kinds)
    kind = str(schema.get("type", "any JSON"))
    if kind == "object" and "properties" in schema:
        return "object of " + ", ".join(f"`{name}`" for name in schema["properties"])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and high < 2**53:
        return f"{kind}, {low} to {high}"
    if low is not None:
        return f"{kind}, from {low}"
    if "maxLength" in schema:
        return f"{kind}, at most {schema['maxLength']} characters"
    return kind
