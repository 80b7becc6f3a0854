"""A browser session of an admin, without a browser: Django's test client, or plain requests to a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.contrib.auth import get_user_model
from django.test import Client as Browser

from bus.services.seed import seed_hardcoded
from tests.harness.server import PASSWORD, BusServer


@pytest.fixture
def seeded(db: None) -> None:
    """The built-in rooms, as the migrated database of a server has them."""
    seed_hardcoded()


@pytest.fixture
def browser(seeded: None) -> Browser:
    """An admin who is logged in."""
    made = Browser()
    made.force_login(get_user_model().objects.create_superuser("root", "", PASSWORD))
    return made


class Pages:
    """The admin of a real server, logged in, with its CSRF tokens."""

    def __init__(self, server: BusServer, name: str) -> None:
        self.client = httpx.Client(base_url=server.http_url, timeout=20, trust_env=False, follow_redirects=True)
        self.client.get("/admin/login/")
        answer = self.post("/admin/login/", {"username": name, "password": PASSWORD, "next": "/admin/"})
        assert "Log out" in answer.text

    def post(self, path: str, data: dict[str, Any]) -> httpx.Response:
        """Send a form as its page does."""
        token = self.client.cookies["csrftoken"]
        headers = {"Referer": str(self.client.base_url.join(path))}
        answer = self.client.post(path, data={"csrfmiddlewaretoken": token, **data}, headers=headers)
        assert answer.status_code == 200, answer.text[:2000]
        return answer

    def get(self, path: str) -> str:
        """The text of a page that must be there."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text[:2000]
        return answer.text

    def row(self, listed: str, query: str) -> Any:
        """The key of the one row of a list that a search finds."""
        found = set(re.findall(rf"/admin/bus/{listed}/([^/]+)/change/", self.get(f"/admin/bus/{listed}/?q={query}")))
        assert len(found) == 1, found
        return found.pop()


@pytest.fixture
def pages(shared_server: BusServer, superuser: str) -> Iterator[Pages]:
    """The shared server's admin."""
    made = Pages(shared_server, superuser)
    yield made
    made.client.close()
