"""Reason phrases of HTTP that Twisted, and so daphne, lacks: a 429 would go out as "Unknown Status"."""

from __future__ import annotations

from http import HTTPStatus


def name_statuses() -> None:
    """Teach Twisted every status that Python knows."""
    from twisted.web import http

    for status in HTTPStatus:
        http.RESPONSES.setdefault(status.value, status.phrase.encode("ascii"))
