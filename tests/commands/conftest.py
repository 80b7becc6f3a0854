"""What the tests of the commands share: a dialect to speak, an admin's token, client ids that nobody else has."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from tests.harness.client import Dialect
from tests.harness.server import BusServer


@pytest.fixture(params=["v0", "v1"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Each test that takes it runs in both dialects."""
    chosen: Dialect = request.param
    return chosen


@pytest.fixture(scope="session")
def admin_token(shared_server: BusServer) -> str:
    """An admin's access token for the session's server."""
    return shared_server.create_token("command-tests", admin=True)


@pytest.fixture
def name() -> Callable[[str], str]:
    """Client ids of this test: `name("alice")` is the same for the whole test, and no other test's."""
    suffix = secrets.token_hex(4)
    return lambda base: f"{base}-{suffix}"
