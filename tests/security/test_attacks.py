"""The attacks of docs/security.md, each tried over a real socket or HTTP. What is tried elsewhere is named in the table there."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from bus.protocol.names import is_name
from tests.conftest import Connect, StartServer
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer
from tests.security.conftest import PRODUCTION, Console
from tests.security.test_live import csrf, log_in


def bearer(token: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {token}"}


def rest(server: BusServer, **headers: str) -> httpx.Client:
    """A REST client."""
    return httpx.Client(base_url=f"{server.http_url}/api/v1/", headers=headers, timeout=20)


def code_of(answer: httpx.Response) -> str:
    """The code of an error answer."""
    return str(answer.json()["error"]["code"])


async def refused_with(wire: Connect, server: BusServer, **options: Any) -> tuple[str, int]:
    """Code of the error and close code of a refused handshake; "HTTP" and the status where the server itself refuses it."""
    try:
        client = await wire(server, register=False, **options)
    except InvalidStatus as problem:
        return "HTTP", problem.response.status_code
    return (await client.expect())["error"]["code"], await client.wait_closed()


# --- the handshake --------------------------------------------------------------------------------------------------------


async def test_a_page_of_another_site_cannot_use_its_visitors_session(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    """Cross-site WebSocket hijacking: the browser sends the cookie along, the origin gives the page away."""
    console.user("victim")
    cookie = {"Cookie": f"sessionid={console.session('victim')}"}
    port = public_server.port
    hijackers = [
        "https://evil.example",
        f"http://127.0.0.1:{port + 1}",
        f"http://127.0.0.1.evil.example:{port}",
        f"http://evil.example#127.0.0.1:{port}",
        f"http://127.0.0.1:{port}@evil.example",
        f"http://127.0.0.1:{port}/",
        "http://localhost",
        "null",
        None,
    ]
    for origin in hijackers:
        assert await refused_with(wire, public_server, headers=cookie, origin=origin) in (
            ("ORIGIN_REFUSED", 4403),
            ("HTTP", 400),  # Daphne itself refuses what is no origin.
        ), origin
    own = await wire(public_server, headers=cookie, origin=f"http://127.0.0.1:{port}")
    assert own.registered["role"] == "user"
    assert (await wire(public_server, token=console.token("no origin needed"))).registered["role"] == "user"


async def test_a_page_of_another_site_is_let_in_with_a_token_and_not_without(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    stranger = await wire(public_server, register=False, origin="https://evil.example")
    await stranger.send({"client_id": "from-evil"})
    assert (await stranger.expect(type="error"))["error"]["code"] == "ORIGIN_REFUSED"
    assert await stranger.wait_closed() == 4403
    known = await wire(public_server, origin="https://partner.example", token=console.token("partner"))
    assert known.registered["role"] == "user"


def test_a_forged_request_with_a_session_needs_the_csrf_token(public_server: BusServer, console: Console) -> None:
    console.user("forged")
    with rest(public_server, Cookie=f"sessionid={console.session('forged')}", Origin="https://evil.example") as browser:
        for path, body in (
            ("tokens", {"name": "stolen"}),
            ("tickets", None),
            ("channels/science:general/messages", {}),
        ):
            answer = browser.post(path, json=body)
            assert answer.status_code == 403, path
            assert code_of(answer) == "FORBIDDEN"
    assert console.run("result = AccessToken.objects.filter(name='stolen').exists()") is False


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_no_compression_is_negotiated_so_no_bomb_can_be_sent(start_server: StartServer, kind: str) -> None:
    """A compression bomb needs permessage-deflate; nobody is given it, and a frame that claims it ends the connection."""
    server = (
        start_server("daphne", env=PRODUCTION)
        if kind == "daphne"
        else start_server("runbus", env=PRODUCTION, arguments=("--server", "uvicorn"))
    )
    with socket.create_connection((server.host, server.port), timeout=10) as line:
        line.sendall(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
            % (server.port, base64.b64encode(b"0123456789abcdef"))
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += line.recv(4096)
        head, _, rest_of_it = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        assert b"sec-websocket-extensions" not in head.lower()
        line.sendall(bytes([0x80 | 0x40 | 1, 0x80 | 4]) + b"\0\0\0\0" + b"\xca\x49\x04\x00")
        while chunk := line.recv(4096):
            rest_of_it += chunk
            if b"\x03\xea" in rest_of_it:
                break
        # The close frame says 1002, protocol error.
        assert b"\x03\xea" in rest_of_it


# --- who one is -----------------------------------------------------------------------------------------------------------


async def test_nobody_speaks_under_another_name(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    liar = await wire(public_server, client_id=f"{fresh_room}-liar", room=f"{fresh_room}:hall")
    reader = await wire(public_server, client_id=f"{fresh_room}-reader", room=f"{fresh_room}:hall")
    for field in ("from", "from_client", "sender", "client_id"):
        await liar.send({"message": "it was me", field: f"{fresh_room}-reader", "type": "event"})
        assert (await reader.expect(message="it was me"))["from"] == f"{fresh_room}-liar"
    await liar.send({"type": "private", "to": [reader.client_id], "message": "psst", "from": "arqonbus_server"})
    assert (await reader.expect(type="private"))["from"] == f"{fresh_room}-liar"
    for name in ("arqonbus_server",):
        with pytest.raises(WireError):
            await wire(public_server, client_id=name)
    for kind in ("ack", "error", "command_response", "system"):
        await liar.send({"type": kind, "payload": {"event": "unsubscribed"}, "room": fresh_room, "channel": "hall"})
    await liar.ping()
    await reader.expect_nothing(
        after=[liar],
        predicate=lambda f: f["type"] in ("ack", "error") or f.get("payload", {}).get("event") == "unsubscribed",
    )


async def test_nobody_takes_an_id_that_readers_would_take_for_the_servers(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    """Nor one of those that the server makes up for who has none, through whichever door."""
    token = console.token(f"pretender {fresh_room}", admin=True)
    lookalikes = [
        "arqonbus_server", "ArqonBus_Server", "arqonbus-server", "arqonbus.server@", "arqonbus", "server", "System", "-system-",
        "anonymous-0123456789ab", "telemetry-0123456789abcdef", "Telemetry-0123456789ABCDEF",
    ]  # fmt: skip
    with rest(public_server, **bearer(token)) as caller:
        for name in lookalikes:
            for who in ({}, {"token": token}):
                with pytest.raises(WireError) as refused:
                    await wire(public_server, client_id=name, **who)
                assert refused.value.code == "VALIDATION_ERROR", name
            spoken = caller.post(f"messages?client_id={name}", json={"room": fresh_room, "message": "x"})
            assert (spoken.status_code, code_of(spoken)) == (400, "INVALID_NAME"), name
        for name in ("my-server-1", "anonymous-fox", "telemetry-agent", "system-monitor"):
            spoken = caller.post(f"messages?client_id={name}", json={"room": fresh_room, "message": "x"})
            assert spoken.status_code == 201, name
    with rest(public_server, **bearer(console.token("arqonbus_server"))) as caller:
        assert caller.post("messages", json={"room": f"{fresh_room}:by-name", "message": "x"}).status_code == 201
    reader = await wire(public_server)
    (message,) = (await reader.request("history", room=fresh_room, channel="by-name"))["messages"]
    assert message["from"].startswith("token.")


async def test_an_id_that_is_somebodys_is_not_to_be_had(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    token = console.token("owner")
    owner = await wire(public_server, client_id=f"{fresh_room}-owned", token=token)
    anonymous = await wire(public_server, client_id=f"{fresh_room}-free")
    thieves: list[dict[str, Any]] = [
        {},
        {"token": console.token("thief", admin=True)},
        {"resume": {"token": "guess", "positions": {}}},
        {"resume": {"token": anonymous.registered["resume_token"], "positions": {}}},
        {"resume_token": ""},
    ]
    for proof in thieves:
        thief = await wire(public_server, register=False)
        await thief.send({"client_id": owner.client_id, **proof})
        assert (await thief.expect(type="error"))["error"]["code"] == "CLIENT_ID_IN_USE"
        assert await thief.wait_closed() == 4409
    await owner.ping()
    await owner.close()
    # Connected or not, it is its owner's.
    with pytest.raises(WireError) as refused:
        await wire(public_server, client_id=owner.client_id)
    assert refused.value.code == "CLIENT_ID_IN_USE"
    with rest(public_server, **bearer(console.token("rest thief"))) as caller:
        path = f"channels/{fresh_room}:hall/messages?client_id={owner.client_id}"
        assert code_of(caller.post(path, json={"message": "as the owner"})) == "CLIENT_ID_IN_USE"
    again = await wire(public_server, client_id=owner.client_id, token=token)
    assert again.client_id == owner.client_id


async def test_secrets_stand_in_no_log_and_in_no_answer(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    secrets = [console.token(f"secret {number}", admin=True) for number in range(4)]
    text = f"private words {fresh_room}"
    client = await wire(public_server, headers=bearer(secrets[0]), room=f"{fresh_room}:hall")
    await client.publish(text, ack=True)
    await wire(public_server, token=secrets[1])
    await wire(public_server, subprotocols=["arqonbus.v1", f"bearer.{secrets[2]}"])
    await wire(f"{public_server.url}?token={secrets[3]}", register=False)
    await client.command("no-such-command", token=secrets[1])
    await client.send('{"token": "' + secrets[1] + '", "type": 5')
    with rest(public_server, **bearer(secrets[0])) as caller:
        ticket = caller.post("tickets").json()["ticket"]
        pages = caller.get("tokens").text + caller.get("audit").text + caller.get("me").text
    secrets.append(ticket)
    await wire(f"{public_server.url}?ticket={ticket}", register=False)
    await client.ping()
    everything = public_server.log() + pages + json.dumps(client.frames) + public_server.get("/metrics")[1].decode()
    assert [secret for secret in secrets if secret in everything] == []
    assert text not in public_server.log()
    digests = console.run("result = list(AccessToken.objects.values_list('digest', flat=True))")
    assert [row for row in digests if row in everything] == []


async def test_a_ticket_asked_for_over_rest_opens_one_socket(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    with rest(public_server, **bearer(console.token("ticketed"))) as caller:
        answer = caller.post("tickets")
        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        ticket = answer.json()["ticket"]
    with rest(public_server) as stranger:
        assert stranger.post("tickets").status_code == 401
    client = await wire(public_server, subprotocols=["arqonbus.v1", f"ticket.{ticket}"], origin="https://app.example")
    assert client.registered["role"] == "user"
    replay = await wire(public_server, register=False, subprotocols=["arqonbus.v1", f"ticket.{ticket}"])
    assert await replay.wait_closed() == 4401
    again = await asyncio.gather(
        *(wire(public_server, register=False, subprotocols=[f"ticket.{ticket}"]) for _ in range(5))
    )
    assert {await client.wait_closed() for client in again} == {4401}


async def test_of_many_who_show_one_ticket_at_once_one_is_let_in(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    with rest(public_server, **bearer(console.token("racing"))) as caller:
        ticket = caller.post("tickets").json()["ticket"]
    clients = await asyncio.gather(*(wire(public_server, register=False) for _ in range(10)))
    await asyncio.gather(*(client.send({"ticket": ticket, "client_type": "racer"}) for client in clients))
    answers = [
        await client.expect(predicate=lambda f: f["type"] == "error" or f["payload"].get("event") == "registered")
        for client in clients
    ]
    assert sum(answer["type"] == "system" for answer in answers) == 1


# --- what one may ------------------------------------------------------------------------------------------------------------


async def test_strangers_make_nothing(
    wire: Connect, public_server: BusServer, start_server: StartServer, console: Console, fresh_room: str
) -> None:
    client = await wire(public_server)
    assert (await client.command("create_channel", room=fresh_room, channel="x"))["error"]["code"] == "FORBIDDEN"
    with rest(public_server) as caller:
        answer = caller.post("channels", json={"room": fresh_room, "channel": "x"})
        assert answer.status_code in (401, 403)
        assert caller.post("tokens", json={"name": "mine"}).status_code in (401, 403)
        grant = {"subject": "anonymous", "action": "*", "pattern": "*"}
        assert caller.post("grants", json=grant).status_code in (401, 403)
    assert console.run(f"result = Room.objects.filter(name={fresh_room!r}).exists()") is False
    strict = start_server(env={**PRODUCTION, "ARQONBUS_AUTO_CREATE": "0"})
    stranger = await wire(strict)
    for attempt in (stranger.join(fresh_room, "x"), stranger.publish("x", room=fresh_room, channel="x", ack=True)):
        with pytest.raises(WireError) as refused:
            await attempt
        assert refused.value.code == "CHANNEL_NOT_FOUND"


async def test_a_private_room_cannot_be_guessed(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.private_room(fresh_room, "plans")
    secret = f"secret-{fresh_room}"
    admin = await wire(public_server, token=console.token("plans admin", admin=True), room=f"{fresh_room}:plans")
    await admin.publish(secret, ack=True)
    await admin.publish("to the room", room=fresh_room, ack=True)
    stranger = await wire(public_server)
    frames: list[Any] = [
        await stranger.command("list_channels", all=True),
        await stranger.command("list_channels", room=fresh_room),
        await stranger.command("channel_info", room=fresh_room, channel="plans"),
        await stranger.command("history", room=fresh_room),
        await stranger.command("history", room=fresh_room, channel="plans"),
        await stranger.command("history", room=f"{fresh_room}:*"),
        await stranger.command("history", room="*"),
        await stranger.command("join_channel", room=fresh_room, channel="plans", since=0),
        await stranger.command("join_channel", room=fresh_room, channel="*", since=0),
        await stranger.command("status", limit=500),
    ]
    # Nor by coming back to where one never was, nor by making a channel beside it.
    resumed = await wire(
        public_server, resume={"positions": {f"{fresh_room}:plans": {"seq": 0}, f"{fresh_room}:*": {"seq": 0}}}
    )
    frames.append(await stranger.command("join_channel", room=fresh_room, channel="beside"))
    with rest(public_server) as caller:
        pages = [
            caller.get(path)
            for path in (
                "rooms",
                f"rooms/{fresh_room}",
                "channels",
                f"channels?room={fresh_room}",
                f"channels/{fresh_room}:plans",
                f"channels/{fresh_room}:plans/messages",
                f"channels/{fresh_room}:plans/events",
                f"messages?room={fresh_room}",
                f"messages?text={secret}",
                "clients?limit=500",
            )
        ]
    await admin.publish("live", ack=True)
    await stranger.expect_nothing(after=[admin], message="live")
    await resumed.expect_nothing(after=[admin], type="event")
    shown = json.dumps([*frames, *resumed.frames])
    assert secret not in shown
    assert admin.client_id not in shown
    for page in pages:
        # Error texts repeat what was asked for.
        assert page.status_code != 200 or not page.json()["results"] or fresh_room not in page.text, page.url
    assert console.run(f"result = Channel.objects.filter(room__name={fresh_room!r}, name='beside').exists()") is False
    info = await admin.request("channel_info")
    assert [row["client_id"] for row in info["participants"]] == [admin.client_id]


async def test_telemetry_does_not_tell_of_private_rooms(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    """Who may read what the bus tells about itself need not be one of those who may know of a private room."""
    console.private_room(fresh_room, "plans")
    console.grant("token", f"watch {fresh_room}", "join", "integriguard:*")
    token = console.token(f"watch {fresh_room}")
    watcher = await wire(public_server, token=token, room="integriguard:telemetry-stream")
    await watcher.join("integriguard", "dashboard-events")
    stream = await wire(public_server.telemetry_url, register=False, headers=bearer(token))
    await stream.expect()
    admin = await wire(
        public_server,
        token=console.token("secret admin", admin=True),
        client_id=f"id-{fresh_room}",
        room=f"{fresh_room}:plans",
    )
    await admin.publish("x", ack=True)
    await admin.publish("x", room=fresh_room, ack=True)
    await admin.request("create_channel", channel="more")
    await admin.request("delete_channel", channel="more")
    await admin.close()
    marker = f"open-{new_name()}"
    await wire(public_server, client_id=marker, room="science:general")

    def of_marker(frame: dict[str, Any]) -> bool:
        return bool(frame.get("payload", {}).get("client_id") == marker)

    for client in (watcher, stream):
        await client.expect(predicate=of_marker)
        assert fresh_room not in json.dumps(client.frames)


def new_name() -> str:
    """A name that nobody has."""
    return base64.b32encode(os.urandom(5)).decode().lower()


async def test_private_messages_are_read_by_their_two_sides_only(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    alice_token = console.token("alice")
    alice = await wire(public_server, client_id=f"{fresh_room}-alice", token=alice_token)
    bob = await wire(public_server, client_id=f"{fresh_room}-bob", token=console.token("bob"))
    spies = [
        await wire(public_server, client_id=f"{fresh_room}-eve"),
        await wire(public_server, token=console.token("eve"), room="pm-x:y"),
        await wire(public_server, token=console.token("boss", admin=True)),
    ]
    for number in range(10):
        await alice.publish(f"psst {number}", type="private", to=[bob.client_id], ack=True)
        await bob.publish(f"psst back {number}", type="private", to=[alice.client_id], ack=True)
    await bob.expect_all(10, type="private")
    inbox = f"pm:{bob.client_id}"
    for spy in spies:
        questions: list[tuple[str, dict[str, Any]]] = [
            ("history", {"room": inbox}),
            ("history", {"channel": inbox}),
            ("history", {"room": "pm"}),
            ("history", {"room": inbox, "sender": alice.client_id}),
            ("channel_info", {"room": inbox}),
            ("list_channels", {"room": "pm"}),
            ("join_channel", {"room": inbox, "since": 0}),
            ("join_channel", {"room": "pm", "channel": bob.client_id, "since": 0}),
            ("status", {"limit": 500}),
        ]
        for command, asked in questions:
            answer = await spy.command(command, **asked)
            assert "psst" not in json.dumps(answer), (command, asked)
        back = await wire(public_server, resume={"positions": {inbox: {"seq": 0}, "pm:*": {"seq": 0}}})
        await back.ping()
        assert "psst" not in json.dumps([*spy.frames, *back.frames])
    for token in ("", console.token("rest eve"), console.token("rest boss", admin=True)):
        with rest(public_server, **(bearer(token) if token else {})) as caller:
            for path in (
                f"channels/{inbox}/messages",
                f"channels/{inbox}",
                f"channels/{inbox}/events",
                "messages?room=pm",
                f"messages?channel={inbox}",
                "messages?text=psst",
                f"messages?sender={alice.client_id}",
                f"channels/{inbox}/messages/1",
            ):
                # The address of the next page repeats what was asked for.
                assert "psst" not in caller.get(path).text.replace("text=psst", ""), path
    mine = await alice.request("history", room=inbox)
    assert len(mine["messages"]) == 10


async def test_who_takes_a_free_id_does_not_get_its_predecessors_letters(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    """Ids of anonymous clients are anybody's once they are gone; what was said under them is not."""
    friend = await wire(public_server, client_id=f"{fresh_room}-friend")
    first = await wire(public_server, client_id=f"{fresh_room}-free")
    await first.publish("sent before", type="private", to=[friend.client_id], ack=True)
    await friend.publish("got before", type="private", to=[first.client_id], ack=True)
    await first.expect(type="private")
    await first.close()
    second: WireClient | None = None
    async with asyncio.timeout(10):
        while second is None:
            try:
                second = await wire(public_server, client_id=f"{fresh_room}-free")
            except WireError:
                await friend.ping()  # The server does not know yet that the first one is gone.
    own = await second.request("history", room=f"pm:{second.client_id}")
    sent = await second.request("history", room=f"pm:{friend.client_id}")
    assert (own["messages"], sent["messages"]) == ([], [])
    await second.publish("sent now", type="private", to=[friend.client_id], ack=True)
    sent = await second.request("history", room=f"pm:{friend.client_id}")
    assert [row["message"] for row in sent["messages"]] == ["sent now"]


def test_the_admin_and_its_data_need_a_login(public_server: BusServer, console: Console) -> None:
    pages = ["", "bus/message/", "bus/accesstoken/", "bus/accesstoken/add/", "bus/client/", "bus/grant/", "auth/user/"]
    console.user("nobody-special")
    session = {"sessionid": console.session("nobody-special")}
    for cookies in ({}, session):
        with httpx.Client(base_url=public_server.http_url, cookies=cookies) as browser:
            for page in pages:
                answer = browser.get(f"/admin/{page}")
                assert answer.status_code == 302, page
                assert answer.headers["location"].startswith("/admin/login/"), page
                # It gets no further than the page does: to the login, or not without a token against forgery.
                assert browser.post(f"/admin/{page}", data={"action": "delete_selected"}).status_code in (302, 403), (
                    page
                )


async def test_what_is_somebody_elses_is_not_there_over_rest(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    for name in ("rich", "poor"):
        console.user(name)
    console.token("rich's", user="rich")
    other = console.run('result = AccessToken.objects.get(name="rich\'s").pk')
    client = await wire(public_server, client_id="rest-target", token=console.token("target", user="rich"))
    with rest(public_server, **bearer(console.token("poor's", user="poor"))) as caller:
        assert caller.delete(f"tokens/{other}").status_code == 404
        assert "rich" not in caller.get("tokens").text
        for method, where in (
            ("POST", "clients/rest-target/disconnect"),
            ("GET", "grants"),
            ("POST", "grants"),
            ("DELETE", "grants/1"),
            ("GET", "audit"),
            ("GET", "nodes"),
            ("DELETE", "channels/science:general"),
            ("PATCH", "rooms/science"),
        ):
            body = {"description": "mine"} if method == "PATCH" else {}
            answer = caller.request(method, where, json=body if method != "GET" else None)
            assert answer.status_code == 403, (method, where, answer.text)
    await client.ping()
    assert console.run(f"result = AccessToken.objects.get(pk={other}).revoked_at is None") is True


# --- what is sent ------------------------------------------------------------------------------------------------------------


async def test_a_frame_that_is_too_large_costs_one_error_or_one_connection(
    wire: Connect, public_server: BusServer
) -> None:
    client, other = await wire(public_server), await wire(public_server)
    await client.send(json.dumps({"message": "x" * 300 * 1024}))
    error = (await client.expect(type="error"))["error"]
    assert (error["code"], error["number"]) == ("FRAME_TOO_LARGE", 413)
    await client.ping()
    await client.send(json.dumps({"message": "x" * 1100 * 1024}))
    assert await client.wait_closed() == 1009
    await other.ping()


@pytest.mark.parametrize(
    "bomb",
    [
        "[" * 100_000,
        '{"a":' * 40_000,
        '{"message":' + "[" * 33 + "]" * 33 + "}",
        '{"payload":{"a":' + '{"b":' * 50_000,
        # A string that does not end, of nothing but quotes: looked through from each of them it would take minutes.
        '{"a":[' + "[]," * 40 + '"' + '\\"' * 125_000,
    ],
    ids=["lists", "objects", "33 levels", "in the payload", "quotes"],
)
async def test_a_nesting_bomb_costs_one_error(wire: Connect, public_server: BusServer, bomb: str) -> None:
    client = await wire(public_server)
    await client.send(bomb)
    assert (await client.expect(type="error"))["error"]["code"] == "INVALID_JSON"
    await client.ping()


async def test_what_is_nothing_but_faults_gets_a_short_answer(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    """A fault takes one byte or two, the sentence about it a hundred."""
    client = await wire(public_server)
    many = {"type": "private", "to": ["!"] * 50_000, "message": "x"}
    positions = {"client_id": "x", "resume": {"positions": {f"a:{number}": {} for number in range(12_000)}}}
    for bad in (many, positions):
        await client.send(json.dumps(bad, separators=(",", ":")))
        error = (await client.expect(type="error"))["error"]
        assert error["code"] == "VALIDATION_ERROR"
        assert 1 <= len(error["details"]) <= 50
    unknown = dict.fromkeys(map(str, range(20_000)), 0)
    with rest(public_server, **bearer(console.token("faulty", admin=True))) as caller:
        answers = [caller.post("messages", json=many), caller.post("rooms", json=unknown)]
        for parameters in (900, 2_000):
            asked = "&".join(f"{number}=" for number in range(parameters))
            answers += [caller.get(f"{path}?{asked}") for path in ("rooms", "channels/science:general/events")]
    for answer in answers:
        assert answer.status_code == 400
        assert len(answer.json()["error"]["details"]) <= 50


INJECTIONS = (
    "'; DROP TABLE bus_message; --",
    '" OR "1"="1',
    "<script>alert(1)</script>",
    "%s%n%x",
    "../../etc/passwd",
    "\u202e\u0007\U0001f600",
    "line\r\nSet-Cookie: a=b",
)


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
async def test_sql_and_html_in_any_text_field_is_text(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str, text: str
) -> None:
    """In the console too: tests/console shows the same texts in a browser."""
    before = console.run("result = [Message.objects.count() >= 0, User.objects.count() > 0 or True]")
    client = await wire(
        public_server,
        token=console.token("injector", admin=True),
        room=f"{fresh_room}:hall",
        client_type=text[:60],
        screen_name=text,
        avatar=text,
        personality={text: [text]},
    )
    reader = await wire(public_server, room=f"{fresh_room}:hall")
    await client.publish(text, ack=True, metadata={text: text}, payload={text: {"deep": text}})
    got = await reader.expect(type="event")
    assert got["message"] == text
    assert got["payload"] == {text: {"deep": text}}
    assert got["metadata"][text] == text
    info = await reader.request("channel_info")
    assert info["participants"][0]["screen_name"] == text
    for parameters in ({"room": text}, {"channel": text}, {"room": f"{fresh_room}:{text}"}):
        for command in ("join_channel", "history", "channel_info", "create_channel", "delete_channel"):
            answer = await client.command(command, **parameters)  # type: ignore[arg-type]
            assert answer["status"] == "error" or is_name(text), (command, parameters)
    await client.request("create_channel", room=fresh_room, channel="made", description=text, metadata={text: text})
    for question in ({"type": text[:64]}, {"sender": text}, {"limit": text}, {"before": text}):
        await client.command("history", **question)  # type: ignore[arg-type]
    await client.ping()
    with rest(public_server, **bearer(console.token("rest injector", admin=True))) as caller:
        for path in ("messages", "channels", "clients", "rooms", "audit"):
            asked = {"text": text, "room": text, "sender": text, "cursor": text}
            page = caller.get(path, params=asked)
            assert page.status_code in (200, 400, 404), page.text
            assert page.headers["content-type"].startswith("application/json")
            assert page.headers["x-content-type-options"] == "nosniff"
        page = caller.get(f"channels/{fresh_room}:hall/messages")
        assert page.json()["results"][0]["message"] == text
    assert console.run("result = [Message.objects.count() >= 0, User.objects.count() > 0 or True]") == before
    assert "Traceback" not in public_server.log()


def test_pages_carry_a_policy_that_runs_nothing_from_elsewhere(public_server: BusServer, console: Console) -> None:
    console.user("admin-page", is_staff=True, is_superuser=True)
    cookies = {"sessionid": console.session("admin-page")}
    with httpx.Client(base_url=public_server.http_url, cookies=cookies) as browser:
        for path in ("/", "/admin/", "/admin/auth/user/", "/api/docs/"):
            answer = browser.get(path)
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert "script-src 'self'" in policy
            assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"


async def test_what_is_done_is_written_down_and_stays_written(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    """Every door leaves its line in the audit log, and no door of Django changes or removes one."""
    admin = await wire(public_server, token=console.token(f"auditor {fresh_room}", admin=True))
    await admin.request("create_channel", room=fresh_room, channel="made")
    await admin.request("delete_channel", room=fresh_room, channel="made")
    target = await wire(public_server, client_id=f"{fresh_room}-target")
    with rest(public_server, **bearer(console.token(f"rest {fresh_room}", admin=True))) as caller:
        grant = caller.post(
            "grants", json={"subject": "everyone", "action": "join", "pattern": f"{fresh_room}:*"}
        ).json()
        caller.delete(f"grants/{grant['id']}").raise_for_status()
        caller.post(f"clients/{target.client_id}/disconnect").raise_for_status()
        assert await target.wait_closed() == 4403
        lines = caller.get("audit").json()["results"]
    seen = [(line["door"], line["action"]) for line in lines]
    for expected in (
        ("socket", "create_channel"),
        ("socket", "delete_channel"),
        ("test", "create_token"),
        ("rest", "create_grant"),
        ("rest", "delete_grant"),
        ("rest", "disconnect"),
    ):
        assert expected in seen
    assert all(line["actor"] for line in lines)
    tried = console.run(
        """
        result = []
        line = AuditEntry.objects.first()
        for attempt in (
            lambda: AuditEntry.objects.all().delete(),
            lambda: AuditEntry.objects.update(actor="nobody"),
            lambda: line.delete(),
            lambda: line.save(),
            lambda: AuditEntry.objects.bulk_update([line], ["actor"]),
        ):
            try:
                attempt()
                result.append("done")
            except TypeError:
                result.append("refused")
        """
    )
    assert tried == ["refused"] * 5


async def test_logging_in_elsewhere_gives_no_second_life_to_a_stolen_cookie(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    """A cookie that was copied ends with the session, not with the thief's connection."""
    console.user("robbed", is_staff=True)
    browser, cookie = await log_in(public_server, "robbed")
    stolen = {"Cookie": f"sessionid={cookie}"}
    thief = await wire(public_server, headers=stolen, origin=public_server.http_url)
    page = await browser.get("/admin/password_change/")
    form = {"csrfmiddlewaretoken": csrf(page.text)}
    await browser.post("/admin/logout/", data=form, headers={"Referer": public_server.http_url})
    await browser.aclose()
    assert await thief.wait_closed() == 4401
    # With the cookie it is nobody now.
    again = await wire(public_server, headers=stolen, origin=public_server.http_url)
    assert again.registered["role"] == "anonymous"
