"""A withdrawn right ends its use at once, on live connections in every process, with a reason."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer
from tests.security.conftest import PRODUCTION, Console


async def ended(client: WireClient) -> tuple[str, int]:
    """Code of the error frame and close code of a connection that the server ends."""
    error = (await client.expect(type="error"))["error"]
    return error["code"], await client.wait_closed()


async def test_a_revoked_grant_ends_the_membership_and_the_deliveries_at_once(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.private_room(fresh_room, "plans")
    console.user(fresh_room)
    grant = console.grant("user", fresh_room, "join", f"{fresh_room}:*")
    reader = await wire(public_server, token=console.token("reader", user=fresh_room), room=f"{fresh_room}:plans")
    writer = await wire(public_server, token=console.token("writer", admin=True))
    await writer.publish("before", room=fresh_room, channel="plans", ack=True)
    await reader.expect(message="before")
    console.revoke(grant)
    gone = (await reader.expect(type="system", event="unsubscribed"))["payload"]
    assert (gone["room"], gone["channel"], gone["reason"]) == (fresh_room, "plans", "REVOKED")
    await writer.publish("after", room=fresh_room, channel="plans", ack=True)
    await writer.publish("to the whole room", room=fresh_room, ack=True)
    await reader.expect_nothing(type="event", after=[writer])
    with pytest.raises(WireError):
        await reader.join(fresh_room, "plans")
    info = await writer.request("channel_info", room=fresh_room, channel="plans")
    assert info["participants"] == []


async def test_one_grant_gives_everybody_a_channel_of_their_own_on_all_of_their_devices(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.private_room(fresh_room, "hall")
    grant = console.grant("identified", "", "join", f"{fresh_room}:{{me}}")
    names = {}
    for user in (f"{fresh_room}-ada", f"{fresh_room}-bob"):
        console.user(user)
        token = console.token(user, user=user)
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as rest:
            names[user] = (token, (await rest.get(f"{public_server.http_url}/api/v1/me")).json()["me"])
    (ada, her_own), (bob, his_own) = names.values()
    phone = await wire(public_server, token=ada, room=f"{fresh_room}:{her_own}")
    laptop = await wire(public_server, token=ada, room=f"{fresh_room}:{her_own}")
    other = await wire(public_server, token=bob, room=f"{fresh_room}:{his_own}")
    server = await wire(public_server, token=console.token("site", admin=True))
    await server.publish("for ada", room=fresh_room, channel=her_own, ack=True)
    for device in (phone, laptop):
        await device.expect(message="for ada")
    await other.expect_nothing(type="event", after=[server])
    for refused in (other.join(fresh_room, her_own), other.publish("hi", room=fresh_room, channel=her_own, ack=True)):
        with pytest.raises(WireError):
            await refused
    console.revoke(grant)
    for device in (phone, laptop, other):
        await device.expect(type="system", event="unsubscribed")


async def test_a_new_ban_ends_the_membership_of_those_it_names(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    banned = await wire(public_server, room=f"{fresh_room}:hall", client_type="pest")
    other = await wire(public_server, room=f"{fresh_room}:hall")
    grant = console.grant("client_type", "pest", "*", f"{fresh_room}:*", allow=False)
    await banned.expect(event="unsubscribed", room=fresh_room)
    with pytest.raises(WireError) as refused:
        await banned.publish("still here", room=fresh_room, channel="hall", ack=True)
    assert refused.value.code == "FORBIDDEN"
    await other.publish("peace", ack=True)
    console.revoke(grant)


async def test_a_room_that_becomes_private_loses_those_without_a_grant(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    stranger = await wire(public_server, room=f"{fresh_room}:hall")
    console.run(f"room = Room.objects.get(name={fresh_room!r}); room.private = True; room.save()")
    await stranger.expect(event="unsubscribed", room=fresh_room)
    with pytest.raises(WireError) as refused:
        await stranger.join(fresh_room, "hall")
    assert refused.value.code == "CHANNEL_NOT_FOUND"


async def test_a_revoked_token_closes_its_connections(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    token = console.token("to revoke")
    client, other = await wire(public_server, token=token), await wire(public_server, token=console.token("stays"))
    console.run("tokens.revoke(SYSTEM, AccessToken.objects.get(name='to revoke'), door='test')")
    assert await ended(client) == ("REVOKED", 4403)
    await other.ping()


async def test_a_token_whose_time_comes_closes_its_connections(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    token = console.run(
        """
        at = timezone.now() + timedelta(seconds=1.5)
        result = tokens.create(SYSTEM, "short", expires_at=at, door="test")[1]
        """
    )
    assert await ended(await wire(public_server, token=token)) == ("UNAUTHENTICATED", 4401)


@pytest.mark.parametrize("change", ["deactivated", "deleted"])
async def test_a_user_who_is_gone_is_gone_from_every_connection(
    wire: Connect, public_server: BusServer, console: Console, change: str
) -> None:
    name = f"user-{change}"
    console.user(name)
    token = console.token(name, user=name)
    by_token = await wire(public_server, token=token)
    cookie = {"Cookie": f"sessionid={console.session(name)}"}
    by_session = await wire(public_server, headers=cookie, origin=public_server.http_url)
    if change == "deactivated":
        console.run(f"user = User.objects.get(username={name!r}); user.is_active = False; user.save()")
    else:
        console.run(f"User.objects.get(username={name!r}).delete()")
    assert await ended(by_token) == ("REVOKED", 4403)
    assert await ended(by_session) == ("REVOKED", 4403)


async def test_a_changed_password_ends_sessions_and_leaves_tokens(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    console.user("changer")
    cookie = {"Cookie": f"sessionid={console.session('changer')}"}
    by_session = await wire(public_server, headers=cookie, origin=public_server.http_url)
    by_token = await wire(public_server, token=console.token("changer's", user="changer"))
    console.run("user = User.objects.get(username='changer'); user.set_password('another'); user.save()")
    assert await ended(by_session) == ("UNAUTHENTICATED", 4401)
    await by_token.ping()


async def test_logging_out_on_the_web_closes_the_sockets_of_that_session_only(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    console.user("loggedin", is_staff=True)
    browsers = [await log_in(public_server, "loggedin") for _ in range(2)]
    sockets = [
        await wire(public_server, headers={"Cookie": f"sessionid={cookie}"}, origin=public_server.http_url)
        for _, cookie in browsers
    ]
    browser, _ = browsers[0]
    page = await browser.get("/admin/password_change/")
    answer = await browser.post(
        "/admin/logout/", data={"csrfmiddlewaretoken": csrf(page.text)}, headers={"Referer": public_server.http_url}
    )
    assert answer.status_code == 200
    assert await ended(sockets[0]) == ("UNAUTHENTICATED", 4401)
    await sockets[1].ping()
    for browser, _ in browsers:
        await browser.aclose()


def csrf(page: str) -> str:
    """The token of the page's form."""
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found is not None
    return found[1]


async def log_in(server: BusServer, name: str) -> tuple[httpx.AsyncClient, str]:
    """A browser that is logged in by the admin's page, and its session cookie."""
    browser = httpx.AsyncClient(base_url=server.http_url)
    page = await browser.get("/admin/login/")
    form: dict[str, Any] = {"username": name, "password": f"pass-{name}", "csrfmiddlewaretoken": csrf(page.text)}
    answer = await browser.post(
        "/admin/login/",
        content=urlencode(form),
        headers={"Content-Type": "application/x-www-form-urlencoded", "Referer": server.http_url},
    )
    assert answer.status_code == 302, answer.text[:500]
    cookie = SimpleCookie("; ".join(answer.headers.get_list("set-cookie")))
    return browser, cookie["sessionid"].value


async def test_leaving_a_group_ends_what_the_group_was_let_into(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.private_room(fresh_room, "lab")
    console.user(fresh_room, groups=("lab staff",))
    console.grant("group", "lab staff", "*", fresh_room)
    client = await wire(public_server, token=console.token("member", user=fresh_room), room=f"{fresh_room}:lab")
    console.run(f"User.objects.get(username={fresh_room!r}).groups.clear()")
    await client.expect(event="unsubscribed", room=fresh_room)


async def test_an_admin_who_is_none_any_more_administers_no_more(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.user(fresh_room, is_superuser=True)
    admin = await wire(public_server, token=console.token("boss", user=fresh_room), room=f"{fresh_room}:hall")
    await admin.request("create_channel", room=fresh_room, channel="one")
    console.private_room(f"{fresh_room}-x", "a")
    await admin.join(f"{fresh_room}-x", "a")
    console.run(f"user = User.objects.get(username={fresh_room!r}); user.is_superuser = False; user.save()")
    # The room that only an admin could be in tells when the change has arrived.
    await admin.expect(event="unsubscribed", room=f"{fresh_room}-x")
    with pytest.raises(WireError) as refused:
        await admin.request("create_channel", room=fresh_room, channel="two")
    assert refused.value.code == "FORBIDDEN"


async def test_what_is_changed_behind_the_models_back_is_found_by_the_regular_look(
    wire: Connect, start_server: StartServer
) -> None:
    server = start_server(env={**PRODUCTION, "ARQONBUS_REVALIDATE": "0.5"})
    shell = Console(server)
    try:
        client = await wire(server, token=shell.token("silent"))
        shell.run("AccessToken.objects.filter(name='silent').update(revoked_at=timezone.now())")
        assert await ended(client) == ("REVOKED", 4403)
    finally:
        shell.close()


@pytest.mark.cluster
async def test_a_withdrawal_reaches_other_processes_with_the_notification_and_without(
    wire: Connect, start_server: StartServer, fresh_room: str
) -> None:
    here, there = start_server(env=PRODUCTION), start_server(env=PRODUCTION)
    shell = Console(here)
    try:
        shell.private_room(fresh_room, "a", "b")
        shell.user("member")
        grants = [shell.grant("user", "member", "*", f"{fresh_room}:{name}") for name in "ab"]
        token = shell.token("member", user="member")
        clients = [await wire(server, token=token, room=f"{fresh_room}:a") for server in (here, there)]
        for client in clients:
            await client.join(fresh_room, "b")
        shell.revoke(grants[0])
        for client in clients:
            await client.expect(event="unsubscribed", channel="a")
        assert here.storage.redis is not None
        here.storage.redis.kill()
        shell.revoke(grants[1])
        for client in clients:
            await client.expect(event="unsubscribed", channel="b", timeout=20)
    finally:
        shell.close()


async def test_a_private_message_goes_to_all_who_may_have_it_or_to_none(
    public_server: BusServer, console: Console, wire: Connect, fresh_room: str
) -> None:
    bob, carol = [await wire(public_server, client_id=f"{fresh_room}-{who}") for who in ("bob", "carol")]
    alice = await wire(public_server, room=f"{fresh_room}:hall", client_type=fresh_room)
    bans = [
        console.grant("client_type", fresh_room, "publish", f"pm:{carol.client_id}", allow=False),
        console.grant("client_type", fresh_room, "join", f"{fresh_room}:*", allow=False),
    ]
    try:
        await alice.expect(event="unsubscribed")  # Both bans act.
        both = [bob.client_id, carol.client_id]
        with pytest.raises(WireError, match="FORBIDDEN"):
            await alice.publish("both of you", type="private", to=both, ack=True)
        # What was sent before a later one would have come before it.
        await alice.publish("you alone", type="private", to=[bob.client_id], ack=True)
        await bob.expect("private", message="you alone")
        assert len(bob.messages(f"pm:{bob.client_id}")) == 1
        assert carol.messages(f"pm:{carol.client_id}") == []
    finally:
        for ban in bans:
            console.revoke(ban)
