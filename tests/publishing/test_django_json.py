"""What Django code publishes is JSON for every reader, or is refused by its field and makes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.models import Message
from bus.protocol.errors import BusError
from bus.services import Published, publish

pytestmark = pytest.mark.django_db

TEXTS = st.text() | st.text(st.characters(categories=["Cs", "Cc", "L"]), max_size=3)
NUMBERS = st.integers() | st.integers(-(2**70), 2**70) | st.floats() | st.decimals()
VALUES = st.recursive(
    TEXTS | NUMBERS | st.none() | st.booleans() | st.datetimes(timezones=st.just(UTC)) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.integers(), inner, max_size=3),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(TEXTS, VALUES, max_size=4)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(PAYLOADS, st.none() | TEXTS, st.none() | PAYLOADS, st.just("event") | TEXTS)
def test_whatever_is_published_every_reader_reads(
    payload: dict[str, Any], message: str | None, metadata: dict[str, Any] | None, kind: str
) -> None:
    before = Message.objects.count()
    refused: BusError | None = None
    done: Published | None = None
    try:
        done = publish("lab:json", payload, message=message, metadata=metadata, type=kind)
    except BusError as problem:
        refused = problem
    if refused is not None:
        assert refused.code == "VALIDATION_ERROR", refused
        assert {fault["field"] for fault in refused.details} <= {"payload", "message", "metadata", "type"}
        assert Message.objects.count() == before
        return
    assert done is not None
    assert done.seq is not None
    row = Message.objects.get(channel__name="json", seq=done.seq)
    assert row.legible == row.frame.encode()
    found = json.loads(row.frame)
    assert found == msgspec.json.decode(row.frame)
    assert found["type"] == kind
    if message is not None:
        assert found["message"] == message
    assert found["payload"] == json.loads(msgspec.json.encode(payload))
    assert json.loads(row.line()) == found
    assert len(row.line().splitlines()) == 1


def nested(levels: int) -> dict[str, Any]:
    """An object in an object …"""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"x": value}
    return value


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**400, 10**5000], ids=["64", "-63", "400", "5000"])
@pytest.mark.parametrize("field", ["payload", "metadata"])
def test_a_number_out_of_range_is_refused_by_its_field(number: int, field: str) -> None:
    with pytest.raises(BusError) as caught:
        publish(
            "lab:json", {"n": number if field == "payload" else 1}, metadata={"n": number if field == "metadata" else 1}
        )
    assert [fault["field"] for fault in caught.value.details] == [field]
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "payload",
    [
        {"a": msgspec.Raw(b'1,"from":"boss"}')},
        {"a": msgspec.Raw(b"1e999")},
        nested(32),
        nested(100_000),
        {"a": "\ud83d"},
    ],
    ids=["no JSON", "no number", "too deep", "far too deep", "half a character"],
)
def test_what_is_no_json_for_everybody_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(BusError) as caught:
        publish("lab:json", payload)
    assert [fault["field"] for fault in caught.value.details] == ["payload"]


@pytest.mark.parametrize(
    "options", [{"type": ""}, {"type": "x" * 65}, {"type": "a\nb"}, {"id": "x" * 129}, {"id": "a\x00"}]
)
def test_a_type_or_an_id_that_none_could_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BusError) as caught:
        publish("lab:json", {}, **options)
    assert [fault["field"] for fault in caught.value.details] == list(options)


def test_values_of_python_have_their_usual_forms() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    publish(
        "lab:json", {"d": Decimal("1E+999"), "t": moment, "big": 2**64 - 1, "nan": float("nan"), "deep": nested(29)}
    )
    found = Message.objects.get().as_dict()["payload"]
    assert (found["d"], found["t"], found["big"], found["nan"]) == ("1E+999", "2026-01-01T00:00:00Z", 2**64 - 1, None)
