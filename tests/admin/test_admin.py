"""What the admin shows and lets one do; changes go through the services and into the audit log."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bus.models import (
    AccessToken,
    AuditEntry,
    Channel,
    Client,
    Grant,
    Handler,
    HandlerPosition,
    Job,
    Membership,
    Message,
    Node,
    Room,
)
from bus.services import claim_jobs, finish_job, publish, reject_job, request_decision, send_private
from bus.services.tokens import create as create_token
from tests.admin.conftest import Pages
from tests.conftest import Connect
from tests.harness.client import WireError
from tests.harness.server import PASSWORD, BusServer
from tests.harness.waiting import wait_for

SHOWN = [
    "room",
    "channel",
    "client",
    "job",
    "decision",
    "handlerposition",
    "message",
    "accesstoken",
    "grant",
    "node",
    "auditentry",
]


def audit() -> list[tuple[str, str, str]]:
    """Door, action and target of each entry, newest first."""
    return list(AuditEntry.objects.values_list("door", "action", "target"))


def told(response: Any) -> str:
    """The messages at the top of the page that follows."""
    return " ".join(str(message) for message in response.context["messages"])


def populate(count: int) -> None:
    """Rows of every kind, with what their lists show of others."""
    start = Room.objects.count() * 100
    node = Node.objects.create(id=f"node-{start}", host="host", pid=start, version="1")
    for number in range(start, start + count):
        room = Room.objects.create(name=f"room-{number}")
        channel = Channel.objects.create(room=room, name="a")
        client = Client.objects.create(client_id=f"client-{number}", node=node, personality={"n": number})
        Membership.objects.create(client=client, channel=channel)
        publish(f"room-{number}:a", message="x")
        Job.objects.create(channel=channel, seq=1, uid=f"arq_{number}")
        request_decision(f"room-{number}:a", key=f"k{number}", title="May I?", action="go")
        handler = Handler.objects.create(name=f"handler-{number}", pattern="*")
        HandlerPosition.objects.create(handler=handler, channel=channel, epoch=channel.epoch)
        Grant.objects.create(subject="everyone", action="join", pattern=f"room-{number}")
        AccessToken.issue(f"token-{number}", user=get_user_model().objects.create_user(f"user-{number}"))
        AuditEntry.objects.create(actor="x", door="admin", action="x", target=str(number))
        Node.objects.create(id=f"node-{number}-b", host="host", pid=number, version="1")


def test_every_list_and_form_opens(browser: Browser) -> None:
    populate(2)
    for name in SHOWN:
        page = browser.get(f"/admin/bus/{name}/")
        assert page.status_code == 200
        link = re.search(rf"/admin/bus/{name}/[^/]+/change/", page.content.decode())
        assert link is not None, name
        assert browser.get(link[0]).status_code == 200, name
    for name in ("room", "channel", "accesstoken", "grant"):
        assert browser.get(f"/admin/bus/{name}/add/").status_code == 200
    assert browser.get("/admin/").status_code == 200


@pytest.mark.parametrize("name", SHOWN)
def test_a_list_runs_as_many_queries_for_many_rows_as_for_few(browser: Browser, name: str) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert browser.get(f"/admin/bus/{name}/").status_code == 200
        return len(captured)

    populate(2)
    few = queries()
    populate(9)
    assert queries() == few


def test_internal_tables_are_not_shown() -> None:
    registered = {model._meta.model_name for model in admin.site._registry if model._meta.app_label == "bus"}
    assert registered == set(SHOWN)


# --- rooms and channels -------------------------------------------------------------------------------------------------


def test_rooms_and_channels_are_made_changed_and_deleted_by_the_services(browser: Browser) -> None:
    browser.post("/admin/bus/room/add/", {"name": "lab", "description": "", "presence": "unknown", "private": "on"})
    assert Room.objects.get(name="lab").private
    channel = {
        "room_name": "lab", "name": "results", "description": "what came out", "type": "custom", "metadata": "{}",
        "retention_count": "10", "retention_age": "",
    }  # fmt: skip
    browser.post("/admin/bus/channel/add/", channel)
    made = Channel.objects.get(room__name="lab", name="results")
    assert (made.retention_count, made.created_by) == (10, "root")
    again = browser.post("/admin/bus/channel/add/", channel)
    assert "already" in again.content.decode()
    browser.post(
        f"/admin/bus/channel/{made.pk}/change/", {"description": "new", "type": "custom", "metadata": '{"a": 1}'}
    )
    made.refresh_from_db()
    assert (made.description, made.metadata, made.retention_count) == ("new", {"a": 1}, None)
    browser.post(f"/admin/bus/channel/{made.pk}/delete/", {"post": "yes"})
    room = Room.objects.get(name="lab")
    browser.post(f"/admin/bus/room/{room.pk}/change/", {"description": "open", "presence": "false"})
    browser.post("/admin/bus/room/", {"action": "delete_selected", "_selected_action": [room.pk], "post": "yes"})
    assert not Room.objects.filter(name="lab").exists()
    assert audit() == [
        ("admin", "delete_room", "lab"),
        ("admin", "update_room", "lab"),
        ("admin", "delete_channel", "lab:results"),
        ("admin", "update_channel", "lab:results"),
        ("admin", "create_channel", "lab:results"),
        ("admin", "create_room", "lab"),
    ]


def test_built_in_channels_are_shown_and_stay_whichever_way_one_tries(browser: Browser) -> None:
    channel = Channel.objects.get(room__name="science", name="explore")
    page = browser.get("/admin/bus/channel/").content.decode()
    assert "science:explore" in page
    assert "deletelink" not in browser.get(f"/admin/bus/channel/{channel.pk}/change/").content.decode()
    assert browser.post(f"/admin/bus/channel/{channel.pk}/delete/", {"post": "yes"}).status_code == 403
    other = Channel.objects.create(room=channel.room, name="mine")
    chosen = {"action": "delete_selected", "_selected_action": [channel.pk, other.pk], "post": "yes"}
    browser.post("/admin/bus/channel/", chosen)
    assert browser.post(f"/admin/bus/room/{channel.room_id}/delete/", {"post": "yes"}).status_code == 403
    browser.post(
        "/admin/bus/room/", {"action": "delete_selected", "_selected_action": [channel.room_id], "post": "yes"}
    )
    assert Channel.objects.filter(room__name="science").count() == 9
    assert Channel.objects.filter(pk=other.pk).exists(), "all or nothing"
    assert audit() == []


def test_a_channel_with_members_stays_and_the_page_says_why(browser: Browser) -> None:
    populate(1)
    membership = Membership.objects.select_related("channel", "client").get()
    answer = browser.post(f"/admin/bus/channel/{membership.channel.pk}/delete/", {"post": "yes"}, follow=True)
    assert "members" in told(answer)
    answer = browser.post(f"/admin/bus/room/{membership.channel.room_id}/delete/", {"post": "yes"}, follow=True)
    assert "members" in told(answer)
    assert Channel.objects.filter(pk=membership.channel.pk).exists()


def test_deleting_a_channel_does_not_load_its_messages(browser: Browser) -> None:
    room = Room.objects.create(name="big")
    channel = Channel.objects.create(room=room, name="log", head=2000)
    Message.objects.bulk_create(
        Message(channel=channel, seq=seq, uid=str(seq), type="event", sender="x", created_at=timezone.now(), frame="{}")
        for seq in range(1, 2001)
    )
    for method in (browser.get, browser.post):
        with CaptureQueriesContext(connection) as captured:
            method(f"/admin/bus/channel/{channel.pk}/delete/", {"post": "yes"})
        assert not [q for q in captured.captured_queries if re.search(r'SELECT.*"bus_message"\."frame"', q["sql"])]
    assert not Message.objects.filter(channel_id=channel.pk).exists()


# --- messages -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def some_messages(seeded: None) -> None:
    """Messages in rooms, and one that is private."""
    for number in range(5):
        publish("science:explore", {"n": number, "text": "<script>alert(1)</script>"}, type="reading")
    publish("science:design", message="=HYPERLINK(1)")
    publish("science", message="to the whole room")
    Client.objects.create(client_id="bob")
    send_private("bob", message="between us")


def test_messages_are_found_by_room_channel_sender_type_time_and_text(browser: Browser, some_messages: None) -> None:
    def found(**query: str) -> int:
        page = browser.get("/admin/bus/message/", query)
        assert page.status_code == 200
        return int(page.context["cl"].result_count)

    assert found() == 7
    assert found(room="science") == 7
    assert found(channel="explore") == 5
    assert found(channel="science:*") == 1
    assert found(room="science", channel="design", type="event") == 1
    assert found(type="reading", sender="arqonbus_server", within="10m") == 5
    assert found(sender="nobody") == 0
    assert found(q="HYPERLINK") == 1
    assert found(q="between") == 0


def test_private_messages_are_not_shown_to_admins(browser: Browser, some_messages: None) -> None:
    private = Message.objects.get(channel__kind=Channel.Kind.INBOX)
    assert browser.get(f"/admin/bus/message/{private.pk}/change/").status_code == 302
    assert b"between us" not in browser.get("/admin/bus/message/").content
    for form in ("csv", "jsonl"):
        answer = browser.get(f"/admin/bus/message/export/{form}/")
        assert b"between us" not in b"".join(answer.streaming_content)  # type: ignore[attr-defined]


def test_hostile_text_is_shown_as_text(browser: Browser, some_messages: None) -> None:
    message = Message.objects.filter(type="reading").first()
    assert message is not None
    for path in ("/admin/bus/message/", f"/admin/bus/message/{message.pk}/change/"):
        page = browser.get(path).content.decode()
        assert "<script>alert(1)" not in page
        assert "&lt;script&gt;alert(1)" in page


def test_what_the_list_shows_is_exported_as_csv_and_json_lines(browser: Browser, some_messages: None) -> None:
    def export(form: str, **query: str) -> str:
        answer = browser.get(f"/admin/bus/message/export/{form}/", query)
        assert answer.status_code == 200
        assert answer.headers["Content-Disposition"].startswith("attachment")
        text: str = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
        return text

    rows = [json.loads(line) for line in export("jsonl", channel="explore").splitlines()]
    assert [row["payload"]["n"] for row in rows] == [4, 3, 2, 1, 0]
    assert rows[0] == Message.objects.get(channel__name="explore", seq=5).as_dict()
    table = list(csv.DictReader(io.StringIO(export("csv", room="science"))))
    assert len(table) == 7
    assert [row["message"] for row in table if row["channel"] == "design"] == ["'=HYPERLINK(1)"]
    assert json.loads(table[-1]["payload"])["n"] == 0
    assert browser.get("/admin/bus/message/export/xls/").status_code == 404
    assert ("admin", "export_messages", "explore") in audit()


def test_no_list_counts_all_messages(browser: Browser, some_messages: None) -> None:
    with CaptureQueriesContext(connection) as captured:
        browser.get("/admin/bus/message/")
        browser.get("/admin/bus/message/", {"q": "x", "type": "reading"})
    counts = [q["sql"] for q in captured.captured_queries if "COUNT(" in q["sql"] and "bus_message" in q["sql"]]
    assert counts
    assert all("LIMIT" in sql for sql in counts)


# --- access -------------------------------------------------------------------------------------------------------------


def test_a_tokens_secret_is_shown_once_and_its_digest_never(browser: Browser) -> None:
    user = get_user_model().objects.create_user("alice")
    form = {
        "name": "robot",
        "user": str(user.pk),
        "scopes": ["join", "publish"],
        "expires_at_0": "",
        "expires_at_1": "",
    }
    answer = browser.post("/admin/bus/accesstoken/add/", form)
    found = re.search(r"arq_tok_[\w-]{30,}", answer.content.decode())
    assert found is not None
    assert "no-store" in answer.headers["Cache-Control"]
    secret = found[0]
    token = AccessToken.objects.get()
    assert (token.user, token.scopes, token.admin) == (user, ["join", "publish"], False)
    assert browser.get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"}).json()["user"] == "alice"
    for path in ("/admin/bus/accesstoken/", f"/admin/bus/accesstoken/{token.pk}/change/", "/admin/"):
        page = browser.get(path).content.decode()
        assert secret not in page
        assert token.digest not in page
    browser.post("/admin/bus/accesstoken/", {"action": "revoke_selected", "_selected_action": [token.pk]})
    assert browser.get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    assert browser.post(f"/admin/bus/accesstoken/{token.pk}/delete/", {"post": "yes"}).status_code == 403
    assert audit() == [("admin", "revoke_token", "robot"), ("admin", "create_token", "robot")]


def test_a_grant_is_checked_by_the_rules_of_the_services(browser: Browser) -> None:
    wrong = {"subject": "user", "subject_name": "", "action": "join", "pattern": "no spaces:*", "allow": "on"}
    errors = browser.post("/admin/bus/grant/add/", wrong).context["adminform"].form.errors
    assert set(errors) == {"subject_name", "pattern"}
    browser.post("/admin/bus/grant/add/", {**wrong, "subject_name": "alice", "pattern": "lab:*"})
    grant = Grant.objects.get()
    browser.post(
        f"/admin/bus/grant/{grant.pk}/change/",
        {"subject": "everyone", "subject_name": "", "action": "*", "pattern": "lab"},
    )
    grant.refresh_from_db()
    assert (grant.subject, grant.allow, grant.created_by) == ("everyone", False, "root")
    browser.post(f"/admin/bus/grant/{grant.pk}/delete/", {"post": "yes"})
    assert [action for _, action, _ in audit()] == ["delete_grant", "update_grant", "create_grant"]


def test_a_grant_about_somebody_who_is_not_there_is_made_and_asked_about(browser: Browser) -> None:
    for subject, name, asked in (
        ("user", "rooot", True),
        ("user", "root", False),
        ("user", "jwt:robot", False),
        ("group", "editors", True),
        ("token", "root/robot", True),
        ("client_type", "anything", False),
    ):
        values = {"subject": subject, "subject_name": name, "action": "join", "pattern": "lab:*", "allow": "on"}
        page = browser.post("/admin/bus/grant/add/", values, follow=True)
        assert Grant.objects.filter(subject=subject, subject_name=name).exists()
        assert (f"There is no {subject} {name} yet" in page.text) is asked, name


def test_the_audit_log_is_looked_at_only(browser: Browser) -> None:
    entry = AuditEntry.objects.create(actor="x", door="rest", action="delete_channel", target="a:b")
    page = f"/admin/bus/auditentry/{entry.pk}"
    assert browser.get("/admin/bus/auditentry/add/").status_code == 403
    assert browser.post(f"{page}/change/", {"actor": "y"}).status_code == 403
    assert browser.post(f"{page}/delete/", {"post": "yes"}).status_code == 403
    assert b"delete_selected" not in browser.get("/admin/bus/auditentry/").content
    entry.refresh_from_db()
    assert entry.actor == "x"


def staff(*permissions: str) -> Browser:
    """Somebody who may come into the admin, with these rights of the bus."""
    user = get_user_model().objects.create_user("staff", "", PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    made = Browser()
    made.force_login(user)
    return made


@pytest.mark.parametrize(
    "attempt",
    [
        lambda b, c: b.post("/admin/bus/channel/add/", {"room_name": "x", "name": "y", "type": "z", "metadata": "{}"}),
        lambda b, c: b.post(f"/admin/bus/channel/{c.pk}/delete/", {"post": "yes"}),
        lambda b, c: b.post("/admin/bus/channel/", {"action": "delete_selected", "_selected_action": [c.pk], "post": "yes"}),
        lambda b, c: b.post("/admin/bus/grant/add/", {"subject": "everyone", "action": "*", "pattern": "*"}),
        lambda b, c: b.post("/admin/bus/accesstoken/add/", {"name": "x", "admin": "on"}),
    ],
)  # fmt: skip
def test_rights_in_the_admin_do_not_make_an_admin_of_the_bus(
    seeded: None, attempt: Callable[[Browser, Channel], Any]
) -> None:
    channel = Channel.objects.create(room=Room.objects.create(name="lab"), name="a")
    attempt(staff("add_channel", "delete_channel", "view_channel", "add_grant", "add_accesstoken"), channel)
    assert Channel.objects.filter(kind=Channel.Kind.CHANNEL).count() == 10
    assert not Grant.objects.exists()
    assert not AccessToken.objects.filter(admin=True).exists()
    assert audit() == []


def test_staff_see_the_messages_that_they_may_read(some_messages: None) -> None:
    Room.objects.filter(name="science").update(private=True)
    Grant.objects.create(subject="user", subject_name="staff", action="history", pattern="science:design")
    page = staff("view_message").get("/admin/bus/message/")
    assert [message.channel.name for message in page.context["cl"].result_list] == ["design"]
    assert Browser().get("/admin/bus/message/").status_code == 302


def test_a_revoked_token_cannot_be_made_good_again(browser: Browser) -> None:
    from bus.auth.permissions import SYSTEM

    token, _ = create_token(SYSTEM, "robot", door="command")
    answer = browser.post(f"/admin/bus/accesstoken/{token.pk}/change/", {"revoked_at_0": "", "admin": "on"})
    assert answer.status_code == 403


# --- living connections -------------------------------------------------------------------------------------------------


async def test_a_client_is_written_to_and_sent_away(
    pages: Pages, wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    name = f"{fresh_room}-agent"
    client = await wire(shared_server, client_id=name, room=f"{fresh_room}:a")
    key = pages.row("client", name)
    page = pages.get(f"/admin/bus/client/{key}/change/")
    assert f"{fresh_room}:a" in page
    answer = pages.post(f"/admin/bus/client/{key}/message/", {"text": "hello from the admin"})
    assert f"Sent your message to {name}" in answer.text
    frame = await client.expect("private")
    assert (frame["message"], frame["from"]) == ("hello from the admin", "web-root")
    answer = pages.post(f"/admin/bus/client/{key}/disconnect/", {"reason": "enough for today"})
    assert "is disconnected" in answer.text
    assert (await client.expect("error"))["error"]["message"] == "enough for today"
    assert await client.wait_closed() == 4403

    def refused_as_gone() -> bool:
        return "is connected" in pages.post(f"/admin/bus/client/{key}/disconnect/", {"reason": ""}).text

    # The socket is closed before the row says so.
    await wait_for(refused_as_gone, "nobody is there to be sent away")
    # Whom nobody needs any more is forgotten, with the letter; whoever is here is not.
    other = await wire(shared_server, client_id=f"{name}-2")
    keys = [key, pages.row("client", other.client_id)]
    answer = pages.post("/admin/bus/client/?connected=all", {"action": "forget_selected", "_selected_action": keys})
    assert "1 client forgotten." in answer.text
    assert "is connected. Disconnect it first" in answer.text
    with pytest.raises(WireError, match="TARGET_NOT_FOUND"):
        await other.publish("anybody?", type="private", to=[name], ack=True)
    again = await wire(shared_server, client_id=name)
    assert again.registered["channels"][f"pm:{name}"]["seq"] == 0


async def test_an_export_is_streamed_by_a_real_server(pages: Pages, shared_server: BusServer, fresh_room: str) -> None:
    batch = {"messages": [{"channel": f"{fresh_room}:a", "message": f"m{n}"} for n in range(400)]}
    for _ in range(3):
        assert shared_server.request("POST", "/api/v1/messages", batch)[0] == 201
    lines = pages.get(f"/admin/bus/message/export/jsonl/?room={fresh_room}").splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1200, 0, -1))


def test_lists_begin_with_what_one_looks_for_and_the_rest_is_a_choice(browser: Browser, some_messages: None) -> None:
    Client.objects.create(client_id="gone-a-while")
    Client.objects.create(client_id="still-here", node=Node.objects.create(id="n1", host="here", pid=1, version="1"))
    publish("integriguard:dashboard-events", {"eventType": "agent_activity"})

    def listed(path: str) -> str:
        return browser.get(f"/admin/bus/{path}").content.decode().partition('id="result_list"')[2]

    for query, shown in {
        "": (True, False),
        "?connected=0": (False, True),
        "?connected=all": (True, True),
        "?q=gone": (False, True),
    }.items():
        page = listed(f"client/{query}")
        assert ("still-here" in page, "gone-a-while" in page) == shown, query
    newest = listed("message/")
    assert "dashboard-events" not in newest
    for query in ("?about=bus", "?about=all", "?room=integriguard", "?channel=dashboard-events"):
        assert "dashboard-events" in listed(f"message/{query}"), query
    assert "science" not in listed("message/?about=bus").partition("</table>")[0]


# --- jobs ---------------------------------------------------------------------------------------------------------------


def test_jobs_are_found_retried_and_discarded(browser: Browser) -> None:
    channel = {
        "room_name": "jobs", "name": "new", "description": "", "type": "custom", "metadata": "{}", "work": '{"attempts": 1}',
    }  # fmt: skip
    assert "attempts" in told(
        browser.post("/admin/bus/channel/add/", {**channel, "work": '{"attempts": 0}'}, follow=True)
    )
    browser.post("/admin/bus/channel/add/", channel)
    publish("jobs:new", message="x")
    publish("jobs:new", message="y")
    (claim,) = claim_jobs("jobs:new").claims
    reject_job(claim.claim, error="nobody can")
    dead = Job.objects.get(seq=1)
    page = browser.get("/admin/bus/job/?channel=jobs:new&state=dead")
    assert [job.pk for job in page.context["cl"].result_list] == [dead.pk]
    assert "nobody can" in browser.get(f"/admin/bus/job/{dead.pk}/change/").content.decode()
    keys = list(Job.objects.values_list("pk", flat=True))
    browser.post("/admin/bus/job/", {"action": "retry", "_selected_action": [dead.pk]})
    assert list(Job.objects.values_list("state", flat=True)) == ["ready", "ready"]
    browser.post("/admin/bus/job/", {"action": "discard", "_selected_action": keys})
    assert [job.state for job in Job.objects.order_by("seq")] == ["discarded", "discarded"]
    assert audit()[0][:2] == ("admin", "discard_job")
    publish("jobs:new", message="z")
    finish_job(claim_jobs("jobs:new").claims[0].claim)
    keys.insert(1, Job.objects.get(seq=3).pk)
    page = browser.post("/admin/bus/job/", {"action": "retry", "_selected_action": keys}, follow=True)
    assert "2 jobs are ready again." in told(page)
    assert "The job is done." in told(page)
    browser.post("/admin/bus/job/", {"action": "discard", "_selected_action": keys})
    staff("view_job", "change_job").post("/admin/bus/job/", {"action": "retry", "_selected_action": keys})
    assert [job.state for job in Job.objects.order_by("seq")] == ["discarded", "discarded", "done"]
