"""Callers of the REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from tests.harness.server import BusServer


class Rest:
    """Calls the API of one server as one identity; answers are `httpx.Response`s."""

    def __init__(self, server: BusServer, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.Client(base_url=f"{server.http_url}/api/v1", headers=headers, timeout=20, trust_env=False)

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
def admin(shared_server: BusServer, admin_secret: str) -> Iterator[Rest]:
    """An admin."""
    rest = Rest(shared_server, admin_secret)
    yield rest
    rest.client.close()


@pytest.fixture
def anonymous(shared_server: BusServer) -> Iterator[Rest]:
    """Somebody without credentials (the shared server lets them in)."""
    rest = Rest(shared_server)
    yield rest
    rest.client.close()


@pytest.fixture(scope="session")
def plain_secrets(shared_server: BusServer) -> Mapping[str, str]:
    """Access tokens of two programs that are no admins."""
    return {name: shared_server.create_token(f"rest-{name}") for name in ("alice", "bob")}


@pytest.fixture
def alice(shared_server: BusServer, plain_secrets: Mapping[str, str]) -> Iterator[Rest]:
    """A program with a token."""
    rest = Rest(shared_server, plain_secrets["alice"])
    yield rest
    rest.client.close()


@pytest.fixture
def bob(shared_server: BusServer, plain_secrets: Mapping[str, str]) -> Iterator[Rest]:
    """Another one."""
    rest = Rest(shared_server, plain_secrets["bob"])
    yield rest
    rest.client.close()
