"""Read the frames that ask the server for something: commands and registrations."""

from __future__ import annotations

from typing import Any

import msgspec

from .faults import Faults
from .inbound import Inbound
from .registration import Registration, registration_from

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_any = msgspec.json.Decoder()


def read_command(raw: dict[str, msgspec.Raw], inbound: Inbound, faults: Faults, *, never: frozenset[str]) -> None:
    """Read the command of a decoded frame. Keys in ``never`` are no parameters. Every fault is added to ``faults``."""
    payload: dict[str, msgspec.Raw] = {}
    if (value := raw.get("payload")) is not None and bytes(value)[:1] == b"{":
        # Inside `payload` only the aliases of `parameters` count, because `sender` is a parameter of its own (history).
        payload = _raw_object.decode(bytes(value))
        for alias in ("args", "params"):
            if alias in payload:
                payload.setdefault("parameters", payload.pop(alias))
    name = raw.get("command", payload.get("command"))
    if name is None or bytes(name)[:1] != b'"':
        faults.add("command", "`command` must be the name of a command. The `help` command lists all commands.")
    else:
        inbound.command = _text.decode(bytes(name))
    # A key beside `parameters` counts if the command has a parameter of that name; otherwise it is ignored.
    # The keys inside `parameters` must fit the command's schema.
    hints: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in never:
            hints[key] = _value(value)
    for key, value in payload.items():
        if key not in ("command", "parameters"):
            hints[key] = _value(value)
    inbound.hints = hints
    given = raw.get("parameters", payload.get("parameters"))
    if given is not None and bytes(given) != b"null":
        parameters = _value(given)
        if isinstance(parameters, dict):
            inbound.parameters = parameters
        elif parameters is not None:
            faults.add("parameters", "`parameters` must be an object.")


def _value(value: msgspec.Raw) -> Any:
    try:
        return _any.decode(bytes(value))
    except msgspec.ValidationError:
        return None  # The check of numbers has reported the number as out of range.


def read_registration(raw: dict[str, msgspec.Raw], faults: Faults) -> Registration:
    """The registration of a decoded frame. Every fault is added to ``faults``."""
    fields: dict[str, Any] = {}
    if (payload := raw.get("payload")) is not None and bytes(payload)[:1] == b"{":
        inner = _value(payload)
        fields.update(inner if isinstance(inner, dict) else {})
    for key, value in raw.items():
        if key not in ("type", "version", "id", "payload", "timestamp"):
            fields[key] = _value(value)
    return registration_from(fields, faults)
