"""Characters that some database, client or terminal does not take: NUL, and halves of a pair of surrogates.

PostgreSQL raises for NUL in a parameter, SQLite does not, so each door has to say no by itself: with a clear error, without a
traceback in the log, and without the end of anything else.
"""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import httpx
import pytest

from tests.conftest import Connect
from tests.harness.client import WireError
from tests.harness.server import BusServer
from tests.security.conftest import Console
from tests.security.test_attacks import bearer, code_of, rest

NUL, HALF = "\x00", "\ud800"


def complaints(server: BusServer) -> list[str]:
    """Lines of the log about failures that nobody foresaw."""
    return [line for line in server.log().splitlines() if "Traceback" in line or re.search(r" ERROR ", line)]


@pytest.fixture(autouse=True)
def _nothing_fails(public_server: BusServer) -> Any:
    before = len(complaints(public_server))
    yield
    assert complaints(public_server)[before:] == []


@pytest.mark.parametrize("odd", [NUL, HALF], ids=["nul", "half a pair"])
async def test_odd_characters_in_any_field_of_a_socket_get_a_clear_error(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str, odd: str
) -> None:
    text = f"a{odd}b"
    registrations: list[dict[str, Any]] = [
        *({field: text} for field in ("client_id", "client_type", "screen_name", "avatar", "room", "channel", "since")),
        {"token": text},
        {"ticket": f"arq_tkt_{text}"},
        {"personality": {"a": [text]}},
        {"personality": {text: 1}},
    ]
    for fields in registrations:
        with pytest.raises(WireError) as refused:
            await wire(public_server, **fields)
        assert 400 <= refused.value.number < 500, fields
    admin = await wire(public_server, token=console.token(f"odd {fresh_room}", admin=True), room=f"{fresh_room}:hall")
    to = {"room": fresh_room, "channel": "made"}
    frames: list[dict[str, Any]] = [
        {"message": "x", "id": text},
        {"message": "x", "type": text},
        {"message": "x", "room": text},
        {"message": "x", "channel": f"pm:{text}"},
        {"type": "private", "to": [text], "message": "x"},
        {"eventType": text, "payload": {}},
        {"eventType": "x", "source": text, "payload": {}},
        {"type": "command", "command": text},
        {"type": "command", "command": "join_channel", "parameters": {"room": fresh_room, "channel": text}},
        {"type": "command", "command": "join_channel", "parameters": {**to, "since": text}},
        {"type": "command", "command": "history", "parameters": {"sender": text}},
        {"type": "command", "command": "history", "parameters": {"before": f"before:{text}"}},
        {"type": "command", "command": "status", "parameters": {"after": text}},
        {"type": "command", "command": "list_channels", "parameters": {"after": text}},
        {"type": "command", "command": "create_channel", "parameters": {**to, "description": text}},
        {"type": "command", "command": "create_channel", "parameters": {**to, "type": text}},
        {"type": "command", "command": "create_channel", "parameters": {**to, "metadata": {text: [text]}}},
        # A number of no column, which only PostgreSQL minds.
        {"type": "command", "command": "create_channel", "parameters": {**to, "retention": {"count": 2**40}}},
    ]
    for frame in frames:
        before = len(admin.frames)
        await admin.send(json.dumps(frame))
        await admin.ping()
        (answer, _pong) = admin.frames[before:]
        assert 400 <= answer["error"]["number"] < 500, (frame, answer)
    # In a message it is the sender's own, and comes as it went; half a pair is no text.
    reader = await wire(public_server, room=f"{fresh_room}:hall")
    if odd == NUL:
        await admin.publish(text, payload={text: [text]}, metadata={text: text}, ack=True)
        got = await reader.expect(type="event")
        assert (got["message"], got["payload"]) == (text, {text: [text]})
        assert len((await reader.request("history"))["messages"]) == 1


def test_odd_characters_over_rest_get_a_clear_error(
    public_server: BusServer, console: Console, fresh_room: str
) -> None:
    places: list[tuple[str, str, Any]] = [
        ("POST", "tokens", {"name": NUL}),
        ("POST", "rooms", {"room": NUL}),
        ("POST", "rooms", {"room": fresh_room, "description": NUL}),
        ("POST", "channels", {"room": fresh_room, "channel": "x", "description": NUL}),
        ("POST", "channels", {"room": fresh_room, "channel": "x", "type": NUL}),
        ("POST", "channels", {"room": fresh_room, "channel": "x", "metadata": {"a": [NUL]}}),
        ("POST", "channels", {"room": fresh_room, "channel": "x", "metadata": {HALF: 1}}),
        ("POST", "channels", {"room": fresh_room, "channel": "x", "retention": {"count": 2**40}}),
        ("POST", "grants", {"subject": "user", "subject_name": NUL, "action": "join", "pattern": "a:*"}),
        ("POST", "grants", {"subject": "everyone", "action": "join", "pattern": NUL}),
        ("POST", "messages", {"room": fresh_room, "message": "x", "id": NUL}),
        ("POST", "messages", {"room": fresh_room, "message": HALF}),
        ("POST", "messages?client_id=a%00b", {"room": fresh_room, "message": "x"}),
        ("POST", "clients/a%00b/disconnect", {}),
        ("POST", "clients/none/disconnect", {"reason": NUL}),
        ("DELETE", "rooms/a%00b", None),
        ("DELETE", "channels/a:b%00", None),
        ("GET", "channels/science:general/events?since=%00", None),
    ]
    for path, names in {
        "messages": "room channel sender type text before after cursor limit order",
        "channels": "room type search cursor ephemeral",
        "rooms": "search private cursor",
        "clients": "type channel search cursor",
        "grants": "subject subject_name action",
        "audit": "actor action target door before",
    }.items():
        places += [("GET", f"{path}?{name}=a%00b", None) for name in names.split()]
    places += [
        ("GET", path, None) for path in ("clients/a%00", "channels/a:b%00", "rooms/%00", "channels/pm:%00/messages")
    ]
    with rest(public_server, **bearer(console.token(f"odd rest {fresh_room}", admin=True))) as caller:
        for method, path, body in places:
            content = None if body is None else json.dumps(body).encode()
            answer = caller.request(method, path, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 404), (method, path, body, answer.text)
            assert code_of(answer)


@pytest.mark.parametrize(
    "cookie", [b'"\\000bcdefghijk"', b'"abcdefghij\\000"', b"\xff\xfe\xfaaaaaaaa", b'"\\355\\240\\200aaa"']
)
def test_a_session_cookie_of_odd_characters_is_nobodys(public_server: BusServer, cookie: bytes) -> None:
    """In quotes a cookie's octal escapes may stand for any byte."""
    own_page = [(b"cookie", b"sessionid=" + cookie), (b"origin", public_server.http_url.encode())]
    with httpx.Client(base_url=public_server.http_url, headers=own_page, timeout=20) as browser:
        assert browser.get("/").status_code == 200
        assert browser.get("/admin/").status_code == 302
        assert browser.get("/api/v1/me").json()["role"] == "anonymous"
        with browser.stream("GET", "/api/v1/channels/science:general/events") as events:
            assert events.status_code == 200
    with socket.create_connection((public_server.host, public_server.port), timeout=10) as line:
        line.sendall(
            b"GET / HTTP/1.1\r\nHost: %b:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
            b"MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\nOrigin: %b\r\nCookie: sessionid=%b\r\n\r\n"
            % (public_server.host.encode(), public_server.port, public_server.http_url.encode(), cookie)
        )
        received = b""
        while b"welcome" not in received:
            chunk = line.recv(4096)
            assert chunk, received
            received += chunk


def test_odd_characters_in_the_admin_get_a_clear_error(
    public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.user(f"odd-{fresh_room}", is_staff=True, is_superuser=True)
    cookies = {"sessionid": console.session(f"odd-{fresh_room}")}
    with httpx.Client(base_url=public_server.http_url, cookies=cookies, timeout=20) as browser:
        for path in (
            "message/?q=%00", "message/?sender=%00", "message/?type__exact=%00", "client/?client_type=%00", "client/%00/change/",
            "room/?name__icontains=%00", "grant/?pattern=%00", "auditentry/?actor=%00", "channel/?room__name=%00",
        ):  # fmt: skip
            assert browser.get(f"/admin/bus/{path}").status_code == 400, path
        for path in ("/admin/login/?next=%00", "/login/?next=%00", "/admin/auth/user/?username=%00", "/?a=%00"):
            assert browser.get(path).status_code == 400, path
        page = browser.get("/admin/bus/channel/add/").text
        hidden = {"csrfmiddlewaretoken": re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]}
        referer = {"Referer": public_server.http_url}
        new = {"room_name": fresh_room, "name": "made", "type": "custom", "metadata": "{}"}
        for model, form in (
            ("room", {"name": NUL}),
            ("room", {"name": fresh_room, "description": NUL}),
            ("accesstoken", {"name": NUL}),
            ("accesstoken", {"name": "x", "scopes": NUL}),
            ("grant", {"subject": "user", "subject_name": NUL, "action": "join", "pattern": "a:*"}),
            ("channel", {**new, "name": NUL}),
            *(("channel", {**new, "metadata": bad}) for bad in (
                r'{"a":"\u0000"}', r'{"a":"\ud800"}', '{"a":1e999}', '{"a":NaN}', "[" * 3000, '{"a":' + "9" * 5000 + "}", "{")),
        ):  # fmt: skip
            answer = browser.post(f"/admin/bus/{model}/add/", data={**form, **hidden}, headers=referer)
            assert answer.status_code == 200, (model, form)
            assert "errorlist" in answer.text, (model, form)
        made = browser.post("/admin/bus/channel/add/", data={**new, **hidden}, headers=referer)
        assert made.status_code == 302
