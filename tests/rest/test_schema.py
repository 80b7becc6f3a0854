"""The OpenAPI document is complete, and the server does what it says, whatever it is sent."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import checks
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi

from bus.protocol.errors import ERRORS
from tests.harness.backends import Backends
from tests.harness.server import BusServer

pytestmark = pytest.mark.embedded

CHECKS = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.unsupported_method,
]
#: Where what breaks the document may be taken all the same: frames of two dialects, with keys of the sender's own.
LENIENT = {"messages_publish", "channel_messages_publish"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document as it is served."""
    made: dict[str, Any] = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call] # it has no types
    return made


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each operation with a name for messages."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_is_valid_and_made_without_a_warning() -> None:
    out = io.StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    assert "openapi: 3.1" in out.getvalue()


def test_every_operation_tells_what_it_does_and_which_errors_it_gives(document: dict[str, Any]) -> None:
    found = list(operations(document))
    assert len(found) >= 30
    for name, operation in found:
        assert operation["summary"], name
        assert len(operation["description"]) > 20, name
        assert operation["tags"], name
        assert {"400", "401", "403", "429", "500", "503"} <= set(operation["responses"]), name
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                content = response["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}, name
                for code, example in content["examples"].items():
                    error = example["value"]["error"]
                    assert (error["number"], ERRORS[error["code"]].number) == (int(status), int(status)), (name, code)
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (name, parameter["name"])


@pytest.fixture(scope="module")
def own_server(backends: Backends) -> Iterator[BusServer]:
    """A server that may be turned upside down."""
    storage = backends.new_storage()
    server = BusServer(storage, backends.new_path("server"), secret_key=backends.secret_key)
    try:
        yield server.start()
    finally:
        server.kill()
        backends.drop_storage(storage)


@pytest.fixture(scope="module")
def api(own_server: BusServer) -> Any:
    """The document of a real server, for an admin."""
    secret = own_server.create_token("schemathesis", admin=True)
    made = schemathesis.openapi.from_url(f"{own_server.http_url}/api/openapi.json")
    made.config.update(headers={"Authorization": f"Bearer {secret}"})
    # All requests have the token; one that lacks the session's cookie beside it breaks nothing.
    made.config.generation.update(with_security_parameters=False)
    # A stream of events does not end; it has tests of its own.
    return made.exclude(operation_id="channel_events")


#: Examples of an operation: what the document allows, and what it does not.
EXAMPLES = {GenerationMode.POSITIVE: 5, GenerationMode.NEGATIVE: 3}

#: Twisted closes a connection whose request line is longer, without an answer.
LONGEST_LINE = 16_000


def try_out(operation: Any, mode: GenerationMode) -> None:
    """Send an operation what the document allows, or does not allow, and hold the answers against the document."""
    wanted = list(CHECKS)
    if mode is GenerationMode.NEGATIVE and operation.definition.raw["operationId"] not in LENIENT:
        wanted.append(openapi.negative_data_rejection)

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES[mode],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    def keeps_to_it(case: Any) -> None:
        sent = requests.Request(**case.as_transport_kwargs()).prepare()
        assume(len(sent.url or "") < LONGEST_LINE)
        case.call_and_validate(checks=wanted, timeout=10)

    keeps_to_it()


@pytest.mark.parametrize("mode", list(EXAMPLES))
def test_the_server_keeps_to_the_document_whatever_it_is_sent(api: Any, mode: GenerationMode) -> None:
    tried = []
    for found in api.get_all_operations():
        operation = found.ok()
        tried.append(operation.label)
        try:
            try_out(operation, mode)
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, f"nothing could be made for {operation.label}"
    assert len(tried) >= 29
