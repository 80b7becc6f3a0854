"""Schemas of strangers: what is refused, and that no validation takes long."""

from __future__ import annotations

from typing import Any

import pytest

from bus.protocol.errors import BusError
from bus.services import decision_schemas

pytestmark = pytest.mark.pure

ORDER: dict[str, Any] = {
    "$defs": {"line": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
    "type": "object",
    "properties": {
        # Names of properties, and values, are no keywords.
        "pattern": {"type": "string", "maxLength": 5, "default": {"$ref": "x"}},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "uniqueItems": True},
    },
    "additionalProperties": False,
}


def fault(call: Any, *args: Any) -> str:
    """The message of the first fault."""
    with pytest.raises(BusError) as raised:
        call(*args)
    message: str = raised.value.details[0]["message"]
    return message


def test_a_usual_schema() -> None:
    schema = decision_schemas.checked(ORDER)
    decision_schemas.check(schema, {"pattern": "abc", "lines": [{"n": number} for number in range(100)]})
    decision_schemas.check(None, {"anything": True})
    assert "$.lines[1].n" in fault(decision_schemas.check, schema, {"lines": [{"n": 1}, {"n": "x"}]})
    assert "additional" in fault(decision_schemas.check, schema, {"other": 1}).lower()


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": "(a+)+$"}}},
        {"patternProperties": {"(a+)+$": {}}},
        {"allOf": [{"not": {"$ref": "http://127.0.0.1:1/schema"}}]},
        {"$ref": "file:///etc/passwd"},
        {"$id": "http://127.0.0.1:1/"},
        {"$dynamicRef": "#a"},
        {"unevaluatedProperties": False},
        {"dependentSchemas": {"a": {"pattern": "x"}}},
        {"type": "nonsense"},
        {"properties": 1},
        {"title": "x" * 20_000},
    ],
)
def test_what_is_refused(schema: dict[str, Any]) -> None:
    assert fault(decision_schemas.checked, schema)


def doubling() -> dict[str, Any]:
    """Each level asks for the next one twice: 2**40 evaluations."""
    levels = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(40)}
    return {"$defs": {**levels, "l40": {}}, "$ref": "#/$defs/l0"}


LARGE = {"items": [{"n": number} for number in range(5000)]}


@pytest.mark.parametrize(
    ("schema", "args"),
    [
        (doubling(), {}),
        ({"$ref": "#"}, {}),
        ({"$ref": "#/$defs/nothing"}, {}),
        ({"properties": {"items": {"uniqueItems": True}}}, LARGE),
        ({"properties": {"items": {"allOf": [{"contains": {}}] * 700}}}, LARGE),
        ({"anyOf": [{"type": "string"}] * 500}, LARGE),
        ({"properties": {"items": {"items": {"enum": [{"k": "x" * 5000}] * 2}}}}, LARGE),
        ({"properties": {"items": {"items": {"multipleOf": 1e-308}}}}, {"items": [10**300, 2**1000]}),
    ],
    ids=["doubling", "circle", "unknown", "unique", "contains", "any", "enum", "numbers"],
)
def test_no_validation_takes_long(schema: dict[str, Any], args: dict[str, Any]) -> None:
    """Without a bound, most of these would not end before the time limit of a test."""
    assert fault(decision_schemas.check, decision_schemas.checked(schema), args)
