"""`ATOMIC_REQUESTS` of a project: every address of the bus is there for it, also one that is added later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.handlers.base import BaseHandler
from django.db import connections
from django.urls import URLPattern, URLResolver, get_resolver

from bus.api.views.base import BusView


def views(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each address below `patterns`, with its view."""
    for entry in patterns:
        path = f"{prefix}{entry.pattern}"
        if isinstance(entry, URLResolver):
            yield from views(entry.url_patterns, path)
        else:
            assert isinstance(entry, URLPattern)
            yield path, entry.callback


VIEWS = list(views(get_resolver("bus.urls").url_patterns))


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project asks for a transaction around each view."""
    for connection in connections.all():
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


@pytest.mark.usefixtures("atomic_requests")
@pytest.mark.parametrize(("path", "view"), VIEWS, ids=[path for path, _ in VIEWS])
def test_every_address_answers_under_atomic_requests(path: str, view: Any) -> None:
    wrapped = BaseHandler().make_view_atomic(view)  # as the handler does for each request; it raises for what cannot be
    if iscoroutinefunction(view) or (isinstance(getattr(view, "cls", None), type) and issubclass(view.cls, BusView)):
        # REST's services have transactions of their own and tell of a commit in doubt; one around them would hide it.
        assert wrapped is view


def test_there_are_asynchronous_addresses_and_rest() -> None:
    asynchronous = {path for path, view in VIEWS if iscoroutinefunction(view)}
    assert {"health", "ready", "version", "metrics", "metrics/cluster"} < asynchronous
    assert any(path.endswith("/events$") for path in asynchronous)
    assert len(VIEWS) > 30
