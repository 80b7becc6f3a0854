"""Settings from environment variables: one reader for the bus's own and for the project's.

A table of settings is a dataclass whose fields have a type, a default and a help text; :func:`read` takes what the
environment says of it. ``NAME_FILE`` gives a file with the value, for secrets that are mounted as files.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def setting(default: Any, help_text: str, unit: str = "") -> Any:
    """A field of a table of settings."""
    metadata = {"help": help_text, "unit": unit}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: tuple(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read(environment: Mapping[str, str], table: Any, prefix: str = "") -> dict[str, Any]:
    """The values that ``environment`` has for ``table``, by field name.

    Raises ``ImproperlyConfigured`` with the variable's name for a value of the wrong form, or a file that cannot be read.
    """
    types = typing.get_type_hints(table)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(table):
        variable = prefix + field.name.upper()
        text = environment.get(variable)
        if text is None and (path := environment.get(f"{variable}_FILE")):
            try:
                text = Path(path).read_text()
            except (OSError, UnicodeDecodeError) as problem:
                raise ImproperlyConfigured(f"{variable}_FILE is {path!r}; it cannot be read: {problem}.") from None
        if text is not None:
            values[field.name] = parsed(variable, text, types[field.name])
    return values


def parsed(variable: str, text: str, kind: Any) -> Any:
    """``text`` as a value of the type ``kind``. Raises ``ImproperlyConfigured`` with the variable's name."""
    text = text.strip()
    if kind in (bool, bool | None):
        lowered = text.lower()
        if lowered in _YES:
            return True
        if lowered in _NO:
            return False
        if not lowered and kind is not bool:
            return None
        raise ImproperlyConfigured(f"{variable} is {text!r}; it must be 1 or 0.")
    if kind is str:
        return text
    if kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            wanted = "a whole number" if kind is int else "a number"
            raise ImproperlyConfigured(f"{variable} is {text!r}; it must be {wanted}.")
        return number
    return tuple(item.strip() for item in text.split(",") if item.strip())


def has_type(value: Any, kind: Any) -> bool:
    """Whether a value that did not come from the environment is of the type ``kind``."""
    if kind in (bool, bool | None):
        return isinstance(value, bool) or (value is None and kind is not bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is str:
        return isinstance(value, str)
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def type_name(kind: Any) -> str:
    """What a type is called in the documentation and in errors."""
    if kind == bool | None:
        return "1, 0 or unset"
    names = {bool: "1 or 0", int: "a whole number", float: "a number", str: "a text"}
    return names.get(kind, "texts with commas between")
