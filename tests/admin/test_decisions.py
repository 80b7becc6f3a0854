"""The admin's page of decisions, and the part of a project's own pages: both decide through the service."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.template import engines
from django.test import Client as Browser
from django.test import RequestFactory

from bus import services
from bus.auth.permissions import SYSTEM
from bus.models import AuditEntry, Decision
from bus.services import grants

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

ADDRESS = "science:approvals"


@pytest.fixture
def asked(seeded: None) -> Any:
    """Ask something, and return the row."""

    def ask(**more: Any) -> Decision:
        question = {"key": "refund", "title": "Refund <b>7</b>?", "action": "refund", "args": {"amount": 20}, **more}
        made = services.request_decision(ADDRESS, **question)
        return Decision.objects.get(uid=made.decision)

    return ask


@pytest.fixture
def ann(seeded: None) -> Any:
    """A person who is no admin, and may decide in the room."""
    user = get_user_model().objects.create_user("ann", "", "a long enough pass phrase", is_staff=True)
    values = {"subject": "user", "subject_name": "ann", "action": "decide", "pattern": "science:*", "allow": True}
    grants.create(SYSTEM, values, door="code")
    return user


def logged_in(user: Any, **options: Any) -> Browser:
    made = Browser(**options)
    made.force_login(user)
    return made


# --- admin --------------------------------------------------------------------------------------------------------------------


def test_who_may_change_decisions_decides_on_the_page_of_one(asked: Any, ann: Any) -> None:
    row = asked(allow=["approve", "edit", "reject"], schema={"properties": {"amount": {"maximum": 50}}})
    ann.user_permissions.add(*Permission.objects.filter(codename__in=["view_decision", "change_decision"]))
    browser = logged_in(ann)
    page, decide = f"/admin/bus/decision/{row.pk}/change/", f"/admin/bus/decision/{row.pk}/decide/"
    assert "Refund &lt;b&gt;7&lt;/b&gt;?" in browser.get("/admin/bus/decision/").text
    assert "Approve with these arguments" in browser.get(page).text
    too_much = browser.post(decide, {"answer": "edit", "args": '{"amount": 99}'}, follow=True)
    assert "50" in too_much.text
    assert "not JSON" in browser.post(decide, {"answer": "edit", "args": "{"}, follow=True).text
    deep = '{"a":' * 50_000 + "1" + "}" * 50_000
    for text in (deep, '{"a": 1e999}', "[1]", '{"a": "\\u0000"}', "NaN", '"x"'):
        refused = browser.post(decide, {"answer": "edit", "args": text}, follow=True)
        assert (refused.status_code, 'class="error"' in refused.text) == (200, True), text[:20]
    for answer in ("", "maybe", "respond"):
        assert 'class="error"' in browser.post(decide, {"answer": answer}, follow=True).text
    done = browser.post(decide, {"answer": "edit", "args": '{"amount": 15}', "comment": "the rest"}, follow=True)
    assert "is edited" in done.text
    assert "Approve with these arguments" not in done.text
    made = services.decision(row.uid)
    assert (made.state, made.args, made.by) == ("edited", {"amount": 15}, "ann")
    assert AuditEntry.objects.get(action="decide").door == "admin"


def test_without_the_permission_or_the_right_nobody_decides_in_the_admin(asked: Any, ann: Any) -> None:
    row = asked()
    ann.user_permissions.add(Permission.objects.get(codename="view_decision"))
    decide = f"/admin/bus/decision/{row.pk}/decide/"
    assert logged_in(ann).post(decide, {"answer": "approve"}).status_code == 403
    other = get_user_model().objects.create_user("ben", "", "a long enough pass phrase", is_staff=True)
    other.user_permissions.add(*Permission.objects.filter(codename__in=["view_decision", "change_decision"]))
    browser = logged_in(other)
    assert 'name="answer"' not in browser.get(f"/admin/bus/decision/{row.pk}/change/").text
    assert "may not decide" in browser.post(decide, {"answer": "approve"}, follow=True).text
    assert services.decision(row.uid).state == "pending"


def test_actions_decide_many_and_say_what_was_refused(browser: Browser, asked: Any) -> None:
    rows = [asked(key=f"k{n}") for n in range(3)]
    services.cancel_decision(rows[0].uid)
    data = {"action": "reject", "_selected_action": [row.pk for row in rows]}
    text = browser.post("/admin/bus/decision/?state=all", data, follow=True).text
    assert "2 decisions are rejected." in text
    assert "cancelled" in text
    assert {services.decision(row.uid).state for row in rows[1:]} == {"rejected"}


# --- any page -----------------------------------------------------------------------------------------------------------------


def shown(user: Any, text: str = '{% include "bus/decisions.html" %}') -> str:
    """What a template shows to a user."""
    request = RequestFactory().get("/any/page/?x=1")
    request.user = user
    return engines["django"].from_string(text).render({}, request)


def test_a_page_shows_what_its_visitor_may_decide(asked: Any, ann: Any) -> None:
    row = asked(allow=["approve", "edit", "respond", "reject"])
    text = shown(ann)
    assert "Refund &lt;b&gt;7&lt;/b&gt;?" in text
    assert "&quot;amount&quot;: 20" in text
    assert 'value="/any/page/?x=1"' in text
    for answer in ("approve", "edit", "respond", "reject"):
        assert f'value="{answer}"' in text
    assert "<script>" not in text
    assert "style=" not in text
    only = '{% include "bus/decisions.html" with decisions_in="science:other" %}'
    assert row.uid not in shown(ann, only)
    ben = get_user_model().objects.create_user("ben")
    assert row.uid not in shown(ben)
    from django.contrib.auth.models import AnonymousUser

    assert shown(AnonymousUser()).strip() == ""


def test_the_forms_of_a_page_decide_with_and_without_the_script(asked: Any, ann: Any) -> None:
    browser = logged_in(ann)
    first, second = asked(key="1"), asked(key="2")
    plain = browser.post(f"/decisions/{first.uid}/", {"answer": "approve", "next": "/health"})
    assert (plain.status_code, plain["Location"]) == (302, "/health")
    assert services.decision(first.uid).state == "approved"
    elsewhere = browser.post(f"/decisions/{first.uid}/", {"answer": "approve", "next": "https://elsewhere.example/"})
    assert elsewhere["Location"] == "/"
    part = {"X-ArqonBus-Part": "decisions"}
    assert second.uid in browser.get("/decisions/", headers=part).text
    # A server with the middleware of the bus refuses a NUL in a URL before any view.
    for path in ("/decisions/?in=%00", "/decisions/?in=nowhere", "/decisions/?in=" + "x" * 3000):
        assert browser.get(path, headers=part).status_code < 500
    for uid in ("nobody", "%00", "x" * 300):
        assert browser.post(f"/decisions/{uid}/", {"answer": "approve"}, headers=part).status_code == 400
    assert (
        browser.post(f"/decisions/{second.uid}/", {"answer": "reject", "comment": "\x00"}, headers=part).status_code
        == 400
    )
    wrong = browser.post(f"/decisions/{second.uid}/", {"answer": "edit", "args": "{"}, headers=part)
    assert (wrong.status_code, "not JSON" in wrong.text, second.uid in wrong.text) == (400, True, True)
    done = browser.post(f"/decisions/{second.uid}/", {"answer": "reject", "comment": "no"}, headers=part)
    assert (done.status_code, "Rejected." in done.text, second.uid in done.text) == (200, True, False)
    assert services.decision(second.uid).comment == "no"
    assert AuditEntry.objects.filter(action="decide", door="page").count() == 2


def test_who_answered_before_learns_on_every_page_that_a_second_answer_came_too_late(asked: Any, ann: Any) -> None:
    ann.user_permissions.add(*Permission.objects.filter(codename__in=["view_decision", "change_decision"]))
    browser, row, part = logged_in(ann), asked(), {"X-ArqonBus-Part": "decisions"}
    form = f"/decisions/{row.uid}/"
    assert "Approved." in browser.post(form, {"answer": "approve"}, headers=part).text
    late = "too late: the decision was approved by ann before."
    other = browser.post(form, {"answer": "reject"}, headers=part)
    assert (other.status_code, late in other.text, "Rejected." in other.text) == (400, True, False)
    assert "Approved." in browser.post(form, {"answer": "approve"}, headers=part).text
    in_admin = browser.post(f"/admin/bus/decision/{row.pk}/decide/", {"answer": "reject"}, follow=True)
    assert late in in_admin.text
    again = {"action": "reject", "_selected_action": [row.pk]}
    assert late in browser.post("/admin/bus/decision/?state=all", again, follow=True).text


def test_a_form_without_the_script_shows_its_fault_in_the_part_that_it_came_from(asked: Any, ann: Any) -> None:
    row, browser = asked(allow=["approve", "edit", "respond"]), logged_in(ann)
    form = f"/decisions/{row.uid}/"

    def page(place: str) -> str:
        """What a page without Django's messages shows, in the session of the browser."""
        request = RequestFactory().get("/any/page/")
        request.user, request.session = ann, browser.session
        text = (
            engines["django"].from_string('{% include "bus/decisions.html" %}').render({"decisions_in": place}, request)
        )
        request.session.save()
        return text

    for data, fault in (
        ({"answer": "edit", "args": "{not json"}, "args is not JSON."),
        ({"answer": "respond"}, "needs a comment"),
        ({"answer": "maybe"}, "answer is one of"),
    ):
        browser.post(form, {**data, "in": ADDRESS})
        assert fault not in page("")
        assert fault in page(ADDRESS)
        assert fault not in page(ADDRESS)
    browser.post(form, {"answer": "approve"})
    assert "Approved." in page("")


def test_a_form_of_another_site_decides_nothing(asked: Any, ann: Any) -> None:
    row = asked()
    assert (
        logged_in(ann, enforce_csrf_checks=True).post(f"/decisions/{row.uid}/", {"answer": "approve"}).status_code
        == 403
    )
    assert Browser().post(f"/decisions/{row.uid}/", {"answer": "approve"}).status_code == 302  # back, with nothing done
    assert services.decision(row.uid).state == "pending"
