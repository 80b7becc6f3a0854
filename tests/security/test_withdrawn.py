"""Rights at their edges: the past, what a refusal tells, and what is withdrawn while something is under way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model

from bus import testing
from bus.auth import identity
from tests.conftest import Connect
from tests.harness.server import BusServer
from tests.security.conftest import Console
from tests.security.test_attacks import bearer, code_of, rest


async def test_who_may_join_but_not_read_history_gets_none_by_a_position(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    admin = await wire(public_server, token=console.token("historian", admin=True), room=f"{fresh_room}:hall")
    secret = f"past-{fresh_room}"
    await admin.publish(secret, ack=True)
    await admin.publish(secret, room=fresh_room, ack=True)
    console.grant("client_type", f"type-{fresh_room}", "history", f"{fresh_room}:*", allow=False)
    bounded = console.token(f"bounded {fresh_room}", scopes=["join", "publish"])
    banned = {"client_type": f"type-{fresh_room}"}
    positions = {"positions": {f"{fresh_room}:hall": {"seq": 0}, f"{fresh_room}:*": {"seq": 0}}}
    for who in (banned, {"token": bounded}):
        client = await wire(public_server, room=f"{fresh_room}:other", **who)
        probe = await wire(public_server, room=f"{fresh_room}:other", **who)
        async with asyncio.timeout(10):
            # Where no notification tells of a new ban it is found by the next look.
            while (await probe.command("history", room=fresh_room))["status"] != "error":
                await probe.ping()
        joined = await client.request("join_channel", room=fresh_room, channel="hall", since=0)
        assert joined["recovered"] is False
        assert (await client.command("history", channel="hall"))["error"]["code"] == "FORBIDDEN"
        back = await wire(public_server, room=f"{fresh_room}:hall", resume=positions, **who)
        assert back.registered["channels"][f"{fresh_room}:hall"]["recovered"] is False
        since = await wire(public_server, room=f"{fresh_room}:hall", since=0, **who)
        # What comes from now on is theirs.
        await admin.publish("now", ack=True)
        for reader in (client, back, since):
            await reader.expect(message="now")
        assert secret not in json.dumps([client.frames, back.frames, since.frames])
    with rest(public_server, **bearer(bounded)) as caller:
        path = f"channels/{fresh_room}:hall/events?since=0"
        with caller.stream("GET", path) as answer:
            first = next(answer.iter_text())
        assert '"recovered":false' in first
        assert secret not in first
    # The same positions bring it all to somebody who may.
    free = await wire(public_server, room=f"{fresh_room}:hall", resume=positions)
    await free.expect(message=secret)


async def test_a_refusal_to_manage_does_not_tell_which_private_rooms_there_are(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.private_room(fresh_room, "plans")
    stranger = await wire(public_server)
    for command in ("create_channel", "delete_channel"):
        for channel in ("plans", "none"):
            there = await stranger.command(command, room=fresh_room, channel=channel)
            absent = await stranger.command(command, room=f"{fresh_room}-not", channel=channel)
            assert there["error"]["code"] == "FORBIDDEN"
            assert json.dumps(there["error"]) == json.dumps(absent["error"]).replace(f"{fresh_room}-not", fresh_room)
    with rest(public_server, **bearer(console.token(f"nobody {fresh_room}"))) as caller:
        for method, path in (("PATCH", "rooms/{}"), ("DELETE", "rooms/{}"), ("DELETE", "channels/{}:plans")):
            body = b'{"description": "x"}' if method == "PATCH" else None
            headers = {"Content-Type": "application/json"} if body else {}
            answers = [
                caller.request(method, path.format(room), content=body, headers=headers)
                for room in (fresh_room, f"{fresh_room}-not")
            ]
            assert len({(answer.status_code, code_of(answer)) for answer in answers}) == 1, path


async def test_a_ticket_is_for_a_socket_and_buys_nothing_over_rest(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.user(f"t-{fresh_room}")
    token = console.token(f"ticketed {fresh_room}", user=f"t-{fresh_room}")
    with rest(public_server, **bearer(token)) as caller:
        ticket = caller.post("tickets").json()["ticket"]
        shown = caller.get("messages?room=science")
        assert shown.headers["cache-control"] == "no-store"
    with rest(public_server, **bearer(ticket)) as thief:
        for path, body in (("tokens", {"name": "lasting"}), ("tickets", None)):
            assert thief.post(path, json=body).status_code == 401
        assert thief.get("channels/science:general/events").status_code == 401
    # It was not spent by that.
    assert (await wire(public_server, token=ticket)).registered["role"] == "user"


@pytest.mark.cluster
async def test_a_right_that_is_withdrawn_while_one_registers_is_not_had_afterwards(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    """The claim waits for the table of clients, which somebody holds; meanwhile the grant goes."""
    console.private_room(fresh_room, "plans")
    token = console.token(f"let in {fresh_room}")
    grant = console.grant("token", f"let in {fresh_room}", "join", f"{fresh_room}:*")
    witness = await wire(public_server, token=token, room=f"{fresh_room}:plans")
    holder = Console(public_server)
    try:
        holder.run(
            """
            from django.db import connection, transaction
            hold = transaction.atomic()
            hold.__enter__()
            connection.cursor().execute("LOCK TABLE bus_client IN EXCLUSIVE MODE")
            """
        )
        late = await wire(public_server, register=False)
        await late.send({"client_id": f"{fresh_room}-late", "token": token, "room": f"{fresh_room}:plans"})
        console.run(
            f"""
            import time
            from django.db import connection
            end = time.monotonic() + 30
            while time.monotonic() < end:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'bus_client'::regclass")
                    if cursor.fetchone()[0]:
                        break
                time.sleep(0.01)
            else:
                raise AssertionError("nobody waits")
            Grant.objects.get(pk={grant}).delete()
            """
        )
        await witness.expect(predicate=lambda f: f.get("payload", {}).get("event") == "unsubscribed")
        holder.run("hold.__exit__(None, None, None)")
    finally:
        holder.close()
    assert (await late.expect("error"))["error"]["code"] == "REVOKED"
    assert await late.wait_closed() == 4403


@pytest.mark.cluster
async def test_a_channel_that_is_withdrawn_while_one_comes_back_is_not_among_those_of_the_answer(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    """The look at what was missed waits for the table of messages, which somebody holds; meanwhile the grants go."""
    console.private_room(fresh_room, "plans")
    name = f"back {fresh_room}"
    grants = [console.grant("token", name, action, f"{fresh_room}:*") for action in ("join", "history")]
    admin = await wire(public_server, token=console.token(f"planner {fresh_room}", admin=True))
    for number in range(3):
        await admin.publish(str(number), room=fresh_room, channel="plans", ack=True)
    late = await wire(public_server, register=False)
    holder = Console(public_server)
    try:
        holder.run(
            """
            from django.db import connection, transaction
            hold = transaction.atomic()
            hold.__enter__()
            connection.cursor().execute("LOCK TABLE bus_message IN ACCESS EXCLUSIVE MODE")
            """
        )
        resume = {"positions": {f"{fresh_room}:plans": {"seq": 1}}}
        await late.send({"client_type": "app", "token": console.token(name), "resume": resume})
        console.run(
            f"""
            import time
            from django.db import connection
            end = time.monotonic() + 30
            while time.monotonic() < end:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'bus_message'::regclass")
                    if cursor.fetchone()[0]:
                        break
                time.sleep(0.01)
            else:
                raise AssertionError("nobody waits")
            for grant in Grant.objects.filter(pk__in={grants}):
                grant.delete()
            """
        )
        await late.expect(predicate=lambda f: f.get("payload", {}).get("event") == "unsubscribed")
        holder.run("hold.__exit__(None, None, None)")
    finally:
        holder.close()
    answer = await late.expect(predicate=lambda f: f.get("payload", {}).get("event") == "registered")
    channels = answer["payload"]["channels"]
    assert f"{fresh_room}:plans" not in channels
    assert channels
    assert all({"epoch", "seq"} <= row.keys() for row in channels.values())


def test_nothing_in_a_log_line_begins_another_or_speaks_to_the_terminal(
    public_server: BusServer, console: Console
) -> None:
    """An origin that is refused stands in the log; a header may hold any byte but a line's end."""
    console.user("log-victim")
    session = console.session("log-victim").encode()
    for mark in (b"\x1b[2J", b"\x9b31m", b"\xc2\x85", b"\x0c"):
        with socket.create_connection((public_server.host, public_server.port), timeout=10) as line:
            line.sendall(
                b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
                b"Cookie: sessionid=%b\r\nOrigin: https://log.example%b\r\nUser-Agent: %b\r\n\r\n"
                % (session, mark, mark)
            )
            with contextlib.suppress(ConnectionResetError):
                received = b"."
                # 4403 in the close frame, or refused by the server itself.
                while received and b"\x11\x33" not in received and b" 400 " not in received:
                    received = line.recv(4096)
    log = public_server.process.log()
    assert "error=ORIGIN_REFUSED" in log
    assert 'origin="https://log.example' in log
    assert not [mark for mark in ("\x1b", "\x9b", "\x85", "\x0c") if mark in log]


@pytest.mark.django_db(transaction=True)
async def test_what_is_withdrawn_ends_also_where_the_first_look_at_it_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renewed = identity.renewed

    def failing(*_: object) -> list[object]:
        monkeypatch.setattr(identity, "renewed", renewed)
        raise RuntimeError("a fault of our own")

    user = await sync_to_async(get_user_model().objects.create_user)("sacked")
    async with testing.live_bus() as bus:
        client = await bus.connect(user=user)
        monkeypatch.setattr(identity, "renewed", failing)
        user.is_active = False
        await user.asave()
        assert (await client.expect("error"))["error"]["code"] == "REVOKED"
    assert any(record.exc_info for record in caplog.records if record.name == "arqonbus.access")
