"""The bus's pages in a project with settings of its own: how numbers look, and what their scripts need to be let in."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth import get_user_model
from django.test import Client as Browser
from django.urls import reverse
from pytest_django import Settings

from tests.django_integration.test_atomic_requests import VIEWS

pytestmark = pytest.mark.django_db

#: The addresses that are one page or document each.
PAGES = [
    f"/{path}"
    for path, view in VIEWS
    if not iscoroutinefunction(view) and not re.search(r"[<(^]|logout|v1/|/$|^$|^mcp$|well-known", path)
] + ["/", "/login/", "/api/asyncapi/", "/api/docs/"]


def config_of(page: str) -> dict[str, Any]:
    """The data block of the console."""
    block = re.search(r'<script id="console-config" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert block
    found: dict[str, Any] = json.loads(block[1])
    return found


@pytest.fixture
def browser() -> Browser:
    """An admin who is logged in, in a browser whose forms are held to the rules of CSRF."""
    made = Browser(enforce_csrf_checks=True)
    made.force_login(get_user_model().objects.create_superuser("root", "", "a long enough pass phrase"))
    return made


@pytest.mark.parametrize("path", PAGES)
def test_numbers_look_the_same_in_every_country(path: str, browser: Browser, settings: Settings) -> None:
    def text() -> str:
        answer = browser.get(path)
        assert answer.status_code == (302 if path == "/login/" else 200)
        return re.sub(r'"token": "\w+"', "", answer.content.decode())

    plain = text()
    settings.USE_THOUSAND_SEPARATOR = True
    settings.LANGUAGE_CODE = "de"
    assert text() == plain


def test_pages_are_looked_at() -> None:
    assert {"/", "/llms.txt", "/api/asyncapi/", "/api/openapi.json"} <= set(PAGES)


@pytest.mark.parametrize(
    "csrf",
    [
        {},
        {"CSRF_COOKIE_HTTPONLY": True},
        {"CSRF_USE_SESSIONS": True},
        {"CSRF_COOKIE_NAME": "XSRF-TOKEN", "CSRF_HEADER_NAME": "HTTP_X_XSRF_TOKEN"},
    ],
    ids=["as Django has it", "hidden cookie", "in the session", "names of their own"],
)
def test_the_console_carries_what_its_requests_need(csrf: dict[str, Any], browser: Browser, settings: Settings) -> None:
    for name, value in csrf.items():
        setattr(settings, name, value)
    told = config_of(browser.get("/").content.decode())["csrf"]
    header = told["header"]
    answer = browser.post(
        reverse("bus:api:grants"),
        {"subject": "everyone", "action": "join", "pattern": "lab:*"},
        content_type="application/json",
        headers={header: told["token"]},
    )
    assert (answer.status_code, answer.json().get("pattern")) == (201, "lab:*")
    readable = not (csrf.get("CSRF_COOKIE_HTTPONLY") or csrf.get("CSRF_USE_SESSIONS"))
    assert (told["cookie"] is not None) == readable
    if readable:
        cookie = browser.cookies[told["cookie"]]
        assert not cookie["httponly"]
        rule = reverse("bus:api:grant", args=[answer.json()["id"]])
        assert browser.delete(rule, headers={header: cookie.value}).status_code == 204
    assert browser.post(reverse("bus:logout"), {"csrfmiddlewaretoken": told["token"]}).status_code == 302
    assert config_of(browser.get("/").content.decode())["user"] is None
