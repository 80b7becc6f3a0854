"""Callers of the REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import pytest

from tests.harness.server import BusServer


def lately() -> str:
    """This very moment, for questions over all channels that begin with the test.

    One question searches 200 channels at most, and the test before may have made more in the same second.
    """
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


class CallAs(Protocol):
    """Makes a caller with a token; closed at the end of the test."""

    def __call__(self, server: BusServer, token: str | None = None) -> Rest: ...


class Rest:
    """Calls the API of one server as one identity; answers are `httpx.Response`s."""

    def __init__(self, server: BusServer, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        base = f"{server.http_url}/api/v1"
        self.client = httpx.Client(base_url=base, headers=headers, timeout=20, trust_env=False, verify=False)

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        if isinstance(body, (bytes, str)):
            headers = {"Content-Type": "application/json", **options.pop("headers", {})}
            return self.client.request(method, path, content=body, headers=headers, **options)
        return self.client.request(method, path, json=body, **options)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that must work."""
        answer = self("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ok(self, method: str, path: str, body: Any = None, status: int = 201, **options: Any) -> Any:
        """The JSON of a request that must answer with `status`."""
        answer = self(method, path, body, **options)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def error(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        """The `error` object of a request that must fail, in the one form of all errors."""
        answer = self(method, path, body, **options)
        assert answer.headers["Content-Type"] == "application/json", answer.text
        error: dict[str, Any] = answer.json()["error"]
        assert {"code", "number", "message", "details"} <= set(error)
        assert error["number"] == answer.status_code
        return error

    def pages(self, path: str, **query: Any) -> list[list[Any]]:
        """All pages of a list, following `next`."""
        found = []
        page = self.get(path, **query)
        while True:
            found.append(page["results"])
            if page["next"] is None:
                return found
            answer = self.client.get(page["next"])
            assert answer.status_code == 200, answer.text
            page = answer.json()


@pytest.fixture(scope="session")
def admin_secret(shared_server: BusServer) -> str:
    """An admin's access token."""
    return shared_server.create_token("rest-admin", admin=True)


@pytest.fixture
def call_as() -> Iterator[CallAs]:
    """Make callers of any server: `call_as(server, token)`."""
    made: list[Rest] = []

    def make(server: BusServer, token: str | None = None) -> Rest:
        made.append(Rest(server, token))
        return made[-1]

    yield make
    for rest in made:
        rest.client.close()


@pytest.fixture
def admin(call_as: CallAs, shared_server: BusServer, admin_secret: str) -> Rest:
    """An admin."""
    return call_as(shared_server, admin_secret)


@pytest.fixture
def anonymous(call_as: CallAs, shared_server: BusServer) -> Rest:
    """Somebody without credentials (the shared server lets them in)."""
    return call_as(shared_server)


@pytest.fixture(scope="session")
def plain_secrets(shared_server: BusServer) -> Mapping[str, str]:
    """Access tokens of two programs that are no admins."""
    return {name: shared_server.create_token(f"rest-{name}") for name in ("alice", "bob")}


@pytest.fixture
def alice(call_as: CallAs, shared_server: BusServer, plain_secrets: Mapping[str, str]) -> Rest:
    """A program with a token."""
    return call_as(shared_server, plain_secrets["alice"])


@pytest.fixture
def bob(call_as: CallAs, shared_server: BusServer, plain_secrets: Mapping[str, str]) -> Rest:
    """Another one."""
    return call_as(shared_server, plain_secrets["bob"])
