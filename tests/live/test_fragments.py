"""The stream of fragments: who may see it, what a viewer gets of it, and what a template may ask for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlencode

import pytest

from bus.mirror import EVENTS
from tests.harness.server import http_request
from tests.harness.waiting import wait_for
from tests.live.conftest import LiveServer
from tests.live.viewers import Viewer


def talk(channel: str, block: str, per: str = "") -> str:
    """The path of a page about a channel."""
    return f"/talk/?{urlencode({'channel': channel, 'template': f'live/said.html#{block}', 'per': per})}"


@pytest.fixture
async def viewers() -> AsyncIterator[AsyncExitStack]:
    """Viewers, who leave at the end."""
    async with AsyncExitStack() as stack:
        yield stack


async def say(site: LiveServer, channel: str, **payload: object) -> None:
    """Publish one message."""
    await site.achange(publish=[[channel, payload]])


async def test_a_page_before_the_first_message_gets_it_and_texts_are_escaped(
    site: LiveServer, viewers: AsyncExitStack, fresh_room: str
) -> None:
    channel = f"{fresh_room}:a"
    viewer = await viewers.enter_async_context(Viewer(site, talk(channel, "plain")))
    await say(site, channel, text="<script>alert(1)</script>\r\nsecond line")
    await viewer.hears("second line")
    assert viewer.seen == ['<li id="said-1">&lt;script&gt;alert(1)&lt;/script&gt;\nsecond line</li>']

    late = Viewer(site, talk(channel, "plain"))
    late.url = viewer.url  # the position of the empty channel
    await late.follow()
    await late.hears("second line")
    await late.leave()
    await late.follow(viewer.position)
    await say(site, channel, text="third")
    await late.hears("third")
    await late.leave()
    assert [text.count("said-") for text in late.seen] == [1, 1]
    assert late.seen[1] == '<li id="said-2">third</li>'


async def test_an_address_that_was_not_signed_here_is_refused(site: LiveServer, fresh_room: str) -> None:
    viewer = Viewer(site, talk(f"{fresh_room}:a", "plain"))
    await viewer.load()
    other = Viewer(site, talk(f"{fresh_room}:b", "broken"))
    await other.load()
    signed, _, rest = viewer.url.removeprefix("/live/").partition("/")
    value, _, proof = signed.rpartition(":")
    stranger = other.url.removeprefix("/live/").partition("/")[0].rpartition(":")
    for forged in (f"{value}:{stranger[2]}", f"{stranger[0]}:{proof}", value, "x" * 5000, f"{value}x:{proof}"):
        status, body = await asyncio.to_thread(site.get, f"/live/{forged}/{rest}")
        assert (status, b"FORBIDDEN" in body) == (403, True), (forged, body)
    for place in (
        "",
        "?at=",
        "?at=x",
        "?at=a-b",
        f"?at={'a' * 17}-1",
        "?at=-1x",
        "?at=a-1&since=1",
        f"?at=a-{'9' * 30}",
    ):
        status, body = await asyncio.to_thread(site.get, f"/live/{signed}/events{place}")
        assert status == 400, (place, body)
    assert "Traceback" not in site.log()


async def test_a_private_channel_is_for_those_who_may_read_its_history_and_ends_with_the_right(
    site: LiveServer, fresh_room: str, viewers: AsyncExitStack
) -> None:
    channel = f"{fresh_room}:a"
    secret = site.create_token(f"viewer-{fresh_room}")
    admin = site.create_token(f"admin-{fresh_room}", admin=True)
    root = {"Authorization": f"Bearer {admin}"}

    async def rest(method: str, path: str, body: object = None) -> bytes:
        url = f"{site.http_url}/api/v1/{path}"
        status, answer = await asyncio.to_thread(http_request, url, method, body, root)
        assert status < 300, answer
        return answer

    await rest("POST", "rooms", {"room": fresh_room, "private": True})
    await rest("POST", "channels", {"room": fresh_room, "channel": "a"})
    stranger = Viewer(site, talk(channel, "plain"))
    async with stranger:
        assert stranger.status == 404
    rules = [
        {"subject": "token", "subject_name": f"viewer-{fresh_room}", "action": action, "pattern": channel}
        for action in ("join", "history")
    ]
    bearer = f"Authorization: Bearer {secret}\r\n"
    await rest("POST", "grants", rules[0])
    only_join = Viewer(site, talk(channel, "plain"), bearer)
    async with only_join:
        assert only_join.status == 403
    grant = json.loads(await rest("POST", "grants", rules[1]))
    viewer = await viewers.enter_async_context(Viewer(site, talk(channel, "plain"), bearer))
    assert viewer.status == 200
    await say(site, channel, text="for those inside")
    await viewer.hears("inside")
    await rest("DELETE", f"grants/{grant['id']}")
    join = json.loads(await rest("GET", "grants"))
    (left,) = (rule for rule in join["results"] if rule["subject_name"] == f"viewer-{fresh_room}")
    await rest("DELETE", f"grants/{left['id']}")
    await wait_for(lambda: any(order.startswith("closed") for order in viewer.orders), "the stream ends")
    await say(site, channel, text="and now a secret")
    assert "secret" not in "".join(viewer.seen)


async def test_a_template_that_fails_or_asks_who_looks_says_so_and_the_next_messages_come(
    site: LiveServer, fresh_room: str, viewers: AsyncExitStack
) -> None:
    channel = f"{fresh_room}:a"
    shared = await viewers.enter_async_context(Viewer(site, talk(channel, "personal")))
    personal = await viewers.enter_async_context(Viewer(site, talk(channel, "personal", per="user")))
    broken = await viewers.enter_async_context(Viewer(site, talk(channel, "broken")))
    choosy = await viewers.enter_async_context(Viewer(site, talk(channel, "choosy")))
    await say(site, channel, text="a-secret-name.html")
    await say(site, channel, text="live/one.html", shown=True)
    await personal.hears("live/one.html")
    await broken.hears("<li>one")
    await choosy.hears("live/one.html")
    await wait_for(lambda: len(shared.orders) == 2, "the shared rendering fails twice")
    assert [order.partition(" ")[0] for order in (*shared.orders, *broken.orders)] == ["failed"] * 3
    assert (shared.seen, len(broken.seen), len(choosy.seen), len(personal.seen)) == ([], 1, 1, 2)
    assert broken.position == choosy.position == shared.position
    log = site.log()
    assert "SharedRenderingError: The template uses `user`" in log
    assert "TemplateDoesNotExist" in log
    assert "a-secret-name" not in log


async def test_only_the_server_tells_of_rows(site: LiveServer, viewers: AsyncExitStack) -> None:
    await site.achange(texts=["an honest row"])
    viewer = await viewers.enter_async_context(Viewer(site))
    url = f"{site.http_url}/api/v1/channels/live:rows/messages"
    pk = max(map(int, site.rows()))
    (of,) = [
        each["id"]
        for each in json.loads((await asyncio.to_thread(site.get, "/api/v1/channels/live:rows/messages"))[1])["results"]
        if each.get("payload", {}).get("pk") == pk
    ]
    forged = [{"event": event, "model": "site.row", "pk": pk, "data": {"text": "forged"}} for event in EVENTS]
    bodies: list[dict[str, object]] = [{"type": "model", "payload": payload} for payload in forged]
    for body in (*bodies, {"message": "hi"}, {"type": "amend", "of": of, "do": "react", "reaction": "+"}):
        status, answer = await asyncio.to_thread(http_request, url, "POST", body)
        assert status < 300, answer
    await site.achange(texts=["the next row"])
    await viewer.hears("the next row")
    assert viewer.rows == site.rows()
    assert len(viewer.seen) == 1


async def test_amendments_change_what_a_page_shows_and_an_erasure_loads_it_again(
    site: LiveServer, fresh_room: str, viewers: AsyncExitStack
) -> None:
    channel = f"{fresh_room}:a"
    await say(site, channel, text="a word")
    viewer = await viewers.enter_async_context(Viewer(site, talk(channel, "plain")))
    root = {"Authorization": f"Bearer {site.create_token(f'root-{fresh_room}', admin=True)}"}
    url = f"{site.http_url}/api/v1/channels/{channel}/messages"
    status, answer = await asyncio.to_thread(http_request, f"{url}/1", "GET", None, root)
    assert status == 200
    of = json.loads(answer)["id"]

    async def amend(**what: object) -> None:
        body = {"type": "amend", "of": of, **what}
        status, answer = await asyncio.to_thread(http_request, url, "POST", body, root)
        assert status < 300, answer

    await amend(do="edit", payload={"text": "another word"})
    await viewer.hears("another word")
    await amend(do="delete")
    await viewer.hears("delete")
    assert viewer.seen == [
        '<li hx-swap-oob="true" id="said-1">another word</li>',
        '<li id="said-1" hx-swap-oob="delete"></li>',
    ]
    await say(site, channel, text="another secret")
    await viewer.hears("another secret")
    status, answer = await asyncio.to_thread(http_request, f"{url}/4/erase", "POST", {}, root)
    assert status < 300, answer
    await wait_for(lambda: any(order.startswith("reload") for order in viewer.orders), "the page is to be loaded again")


async def test_language_time_zone_and_prefix_are_those_of_the_page(
    site: LiveServer, fresh_room: str, viewers: AsyncExitStack
) -> None:
    channel = f"{fresh_room}:a"
    path = talk(channel, "local")
    german = await viewers.enter_async_context(Viewer(site, f"{path}&language=de"))
    english = await viewers.enter_async_context(Viewer(site, path))
    await say(site, channel, number=1.5)
    await german.hears("<li>")
    await english.hears("<li>")
    assert (german.seen, english.seen) == (["<li>Ja /rows/ 1,5</li>"], ["<li>Yes /rows/ 1.5</li>"])
