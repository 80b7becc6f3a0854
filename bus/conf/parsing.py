"""Reads and checks a table of settings: those of the bus, and those of the ready-made project.

A table is a frozen msgspec struct. Each field has a type, a default, and a ``Meta`` with its bounds, unit and meaning.
``NAME_FILE`` names a file with the value of ``NAME``, for secrets that are mounted as files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from django.core.exceptions import ImproperlyConfigured
from msgspec import inspect

_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
#: Characters of an invalid value that an error shows.
_SHOWN = 200


class Field(NamedTuple):
    """One setting of a table."""

    name: str
    #: The annotation, with bounds.
    annotation: Any
    #: The type without bounds, as msgspec describes it.
    kind: inspect.Type
    default: Any
    meaning: str
    unit: str
    #: The smallest number apart from 0; 0: no such bound.
    shortest: float

    @property
    def type_name(self) -> str:
        """The name of the type in the documentation and in errors."""
        kind = self.kind
        if isinstance(kind, inspect.LiteralType):
            return "one of " + ", ".join(map(str, kind.values))
        if isinstance(kind, inspect.UnionType):
            return "1, 0 or unset"
        return _NAMES.get(type(kind), "texts separated by commas")

    def rule(self, value: Any) -> str:
        """The type and the bounds that ``value`` is not within, as the end of the sentence "it must be …"."""
        kind = self.kind
        bounds = []
        if isinstance(kind, (inspect.IntType, inspect.FloatType)):
            if self.shortest:
                bounds.append(f"0 or at least {self.shortest}")
            elif kind.ge is not None:
                bounds.append(f"at least {kind.ge}")
            elif kind.gt is not None:
                bounds.append(f"above {kind.gt}")
            # Most upper bounds are out of reach; they matter to a value above them only.
            if kind.le is not None and _above(value, kind.le):
                bounds = [f"at most {kind.le}"]
        return ", ".join([self.type_name, *bounds])


def _above(value: Any, most: float) -> bool:
    try:
        return float(value) > most
    except (TypeError, ValueError, OverflowError):
        return False


_NAMES: dict[type[inspect.Type], str] = {
    inspect.BoolType: "1 or 0",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.StrType: "a text",
}


def fields_of(table: type[msgspec.Struct]) -> dict[str, Field]:
    """The fields of a table of settings, by name, in the table's order."""
    described = inspect.type_info(table)
    assert isinstance(described, inspect.StructType)
    annotations = msgspec.structs.fields(table)
    fields = {}
    for row, plain in zip(described.fields, annotations, strict=True):
        kind = row.type
        meta: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        while isinstance(kind, inspect.Metadata):
            meta, extra = {**meta, **(kind.extra_json_schema or {})}, {**extra, **(kind.extra or {})}
            kind = kind.type
        fields[row.name] = Field(
            row.name,
            plain.type,
            kind,
            row.default,
            meta["description"],
            extra.get("unit", ""),
            extra.get("shortest", 0),
        )
    return fields


def read(environment: Mapping[str, str], table: type[msgspec.Struct], prefix: str = "") -> dict[str, Any]:
    """The values that ``environment`` has for ``table``, by field name.

    Raises ``ImproperlyConfigured`` with the variable's name for an invalid value or an unreadable file.
    """
    values: dict[str, Any] = {}
    for field in fields_of(table).values():
        variable = prefix + field.name.upper()
        text = environment.get(variable)
        if text is None and (path := environment.get(f"{variable}_FILE")):
            try:
                text = Path(path).read_text()
            except (OSError, UnicodeDecodeError) as problem:
                raise ImproperlyConfigured(
                    f"{variable}_FILE is {path!r}. This file cannot be read: {problem}."
                ) from None
        if text is not None:
            values[field.name] = parsed(variable, text.strip(), field)
    return values


def parsed(variable: str, text: str, field: Field) -> Any:
    """``text`` as a value of ``field``. Raises ``ImproperlyConfigured`` with the variable's name."""
    kind = field.kind
    if isinstance(kind, (inspect.BoolType, inspect.UnionType)):
        lowered = text.lower()
        value: Any = True if lowered in _YES else False if lowered in _NO else text
        if not text and isinstance(kind, inspect.UnionType):
            return None
    elif isinstance(kind, (inspect.VarTupleType)):
        value = [item.strip() for item in text.split(",") if item.strip()]
    else:
        value = text
    return checked(variable, value, field, strict=isinstance(value, bool))


def checked(named: str, value: Any, field: Field, *, strict: bool = True) -> Any:
    """``value`` converted to the type of ``field``, within its bounds. Unless ``strict``, a text may become a number.

    Raises ``ImproperlyConfigured`` with ``named``, the name of the setting for its author.
    """
    try:
        result = msgspec.convert(value, field.annotation, strict=strict)
        if not field.shortest or result == 0 or result >= field.shortest:
            return result
    except msgspec.ValidationError:
        pass
    raise ImproperlyConfigured(f"{named} is {repr(value)[:_SHOWN]}; it must be {field.rule(value)}.")
