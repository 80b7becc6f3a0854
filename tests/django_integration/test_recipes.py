"""The recipes of docs/how-to.md for Django projects run as they stand there."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import path

from bus.auth.identity import from_user
from bus.models import AccessToken, Message
from bus.protocol.errors import BusError
from bus.services import publish
from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.django_db


def recipe(word: str) -> ModuleType:
    """The code of the page that has `word`, as a module."""
    text = (PROJECT_ROOT / "docs" / "how-to.md").read_text(encoding="utf-8")
    found = re.findall(
        r"^<!-- not run: \S+test_recipes.py runs it -->\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    (code,) = (one for one in found if word in one)
    module = ModuleType(f"recipe_{word}")
    exec(compile(code, "docs/how-to.md", "exec", dont_inherit=True), module.__dict__)
    return module


def test_the_users_of_a_tenant_have_its_room_and_no_other() -> None:
    tenants = recipe("add_tenant")
    seven, eight = tenants.add_tenant(7), tenants.add_tenant(8)
    ada, bob = User.objects.create_user("ada"), User.objects.create_user("bob")
    ada.groups.add(seven)
    bob.groups.add(eight)
    assert publish("tenant-7:orders", {"order": 1}, actor=from_user(ada)).seq == 1
    with pytest.raises(BusError) as refused:
        publish("tenant-7:orders", {"order": 2}, actor=from_user(bob))
    assert refused.value.code == "CHANNEL_NOT_FOUND"


@pytest.fixture(scope="module")
def api() -> ModuleType:
    """The API of the recipe, which may be made once."""
    return recipe("NinjaAPI")


@pytest.fixture
def site(api: ModuleType, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with the API."""
    urls = ModuleType("recipe_urls")
    urls.urlpatterns = [path("api/", api.api.urls)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    settings.ROOT_URLCONF = urls.__name__


def test_an_endpoint_of_ninja_publishes_as_its_caller(site: None) -> None:
    ada = User.objects.create_user("ada")
    recipe("add_tenant").add_tenant(7).user_set.add(ada)
    _, token = AccessToken.issue("shop", user=ada)
    browser = Browser(enforce_csrf_checks=True)

    def post(room: str, **headers: str) -> Any:
        return browser.post(f"/api/orders/{room}", {"article": "tea"}, "application/json", headers=headers)

    done = post("tenant-7", Authorization=f"Bearer {token}")
    assert (done.status_code, done.json()["seq"]) == (200, 1)
    assert Message.objects.get(channel__room__name="tenant-7", channel__name="orders").seq == 1
    wrong = post("tenant-7", Authorization="Bearer arq_tok_wrong")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert post("tenant-7").status_code == 403, "neither a token nor a CSRF token"
    recipe("add_tenant").add_tenant(8)
    hidden = post("tenant-8", Authorization=f"Bearer {token}")
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "CHANNEL_NOT_FOUND")

    browser.force_login(ada)
    assert post("tenant-7").status_code == 403, "a session needs the CSRF token"
    with_session = Browser()
    with_session.force_login(ada)
    assert with_session.post("/api/orders/tenant-7", {"article": "tea"}, "application/json").json()["seq"] == 2
