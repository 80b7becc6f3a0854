"""The addresses of the server as monitors ask for them: HEAD has the status of GET."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

pytestmark = [pytest.mark.embedded, pytest.mark.django_db(transaction=True)]


def plain(patterns: list[URLPattern | URLResolver], start: str = "/") -> Iterator[str]:
    """Yield the addresses of the bus that have no variable part. Those of the admin are Django's own."""
    for pattern in patterns:
        route = str(pattern.pattern)
        if any(sign in route for sign in "<(^\\") or route.startswith("admin"):
            continue
        if isinstance(pattern, URLResolver):
            yield from plain(pattern.url_patterns, start + route)
        else:
            yield start + route


def test_head_works_wherever_get_works() -> None:
    client = Client(raise_request_exception=False)
    paths = sorted(set(plain(get_resolver().url_patterns)))
    assert {"/", "/decisions/", "/health", "/api/v1/me"} <= set(paths)
    refused = {path for path in paths if client.head(path).status_code == 405}
    assert {path for path in refused if client.get(path).status_code != 405} == set()
    assert refused
    assert "/" not in refused
