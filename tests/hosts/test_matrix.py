"""Every pair of choices that projects make (`choices`): checked, migrated, served, and used through each door."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.client import WireClient
from tests.hosts.choices import FACTORS, Choice, name_of, pairwise, possible
from tests.hosts.host import Host, Visitor
from tests.rest.test_events import Reader

# They bring settings of their own: SQLite and the in-memory layer.
pytestmark = pytest.mark.embedded

CHOICES = pairwise()


@pytest.mark.pure
def test_every_pair_is_tried() -> None:
    tried = {pair for choice in CHOICES for pair in itertools.combinations(sorted(choice.items()), 2)}
    for one, other in itertools.combinations(sorted(FACTORS), 2):
        for first, second in itertools.product(FACTORS[one], FACTORS[other]):
            assert ((one, first), (other, second)) in tried or not possible({one: first, other: second})


@pytest.fixture(params=CHOICES, ids=name_of)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """The project of a choice, running."""
    choice: Choice = request.param
    made = Host(tmp_path, choice)
    try:
        made.start()
        yield made
    finally:
        made.process.kill()


@pytest.fixture
async def browser(host: Host) -> AsyncIterator[Visitor]:
    """Somebody who looks at it."""
    visitor = Visitor(host)
    async with visitor.client:
        yield visitor


async def test_a_project_of_these_choices_works(host: Host, browser: Visitor) -> None:
    facts = host.facts
    few = host.choice["apps"] == "few"
    # Only what it does without is named.
    assert {line.partition(":")[0] for line in facts["checks"]} <= ({"bus.W003", "bus.W011"} if few else set())

    config = await browser.console()
    await browser.log_in(config["login_path"], facts["root"])
    config = await browser.console()
    assert config["user"] == facts["root"]

    await use_rest(host, browser, config)
    await use_sockets(host, browser, config)
    await use_events(host, config)
    await use_live_page(host, config)
    if not few:
        await use_admin(host, browser)
    assert (await browser.submit_logout(config)).status_code == 302
    assert (await browser.console())["user"] is None
    log = host.process.log()
    assert not re.search("Traceback|ERROR", log), log


async def use_rest(host: Host, browser: Visitor, config: dict[str, Any]) -> None:
    """By session with the page's CSRF token, and by token."""
    facts, api = host.facts, host.url(config["api_path"])
    rule = {"subject": "user", "subject_name": facts["ada"], "action": "*", "pattern": "mine:{me}"}
    shown = {config["csrf"]["header"]: config["csrf"]["token"]}
    answer = await browser.client.post(f"{api}grants", json=rule, headers=shown)
    if host.choice["users"] == "bare":
        # Nobody of these users is an admin, a token may be.
        assert (answer.status_code, "CSRF" in answer.text) == (403, False), answer.text
        bearer = {"Authorization": f"Bearer {facts['root_token']}"}
        async with httpx.AsyncClient(trust_env=False) as root:
            answer = await root.post(f"{api}grants", json=rule, headers=bearer)
    assert answer.status_code == 201, answer.text
    assert (await browser.client.post(f"{api}grants", json=rule)).status_code == 403
    async with httpx.AsyncClient(
        base_url=api, timeout=20, trust_env=False, headers={"Authorization": f"Bearer {facts['ada_token']}"}
    ) as ada:
        me = (await ada.get("me")).json()
        assert (me["user"], me["role"]) == (facts["ada"], "user")
        made = await ada.post("tokens", json={"name": "another"})
        assert made.status_code == 201, made.text
        names = [row["name"] for row in (await ada.get("tokens")).json()["results"]]
        assert names == ["another", "probe"]
        for number in range(1, 4):
            sent = await ada.post("channels/lab:rest/messages", json={"payload": {"number": number}})
            assert (sent.status_code, sent.json()["seq"]) == (201, number), sent.text
        page = (await ada.get("channels/lab:rest/messages")).json()["results"]
        assert sorted(row["seq"] for row in page) == [1, 2, 3]
        assert (await ada.get("nodes")).status_code == 403
        assert (await ada.get("messages", params={"text": "number"})).status_code == 200


async def use_sockets(host: Host, browser: Visitor, config: dict[str, Any]) -> None:
    """Where the page looks for them, with its session, and with a token."""
    facts, url = host.facts, host.url(config["bus_path"], "ws")
    origin = f"http://127.0.0.1:{host.port}"
    page = await WireClient.connect(url, dialect="v1", headers={"Cookie": browser.cookies}, origin=origin)
    ada = await WireClient.connect(
        url, dialect="v1", headers={"Authorization": f"Bearer {facts['ada_token']}"}, client_id="ada-1"
    )
    async with page, ada:
        assert (page.registered["role"], ada.registered["role"]) == (
            "user" if host.choice["users"] == "bare" else "admin",
            "user",
        )
        await ada.request("join_channel", room="mine", channel=facts["ada_name"])
        await page.request("join_channel", room="lab", channel="talk")
        await ada.request("join_channel", room="lab", channel="talk")
        for text in ("one", "two"):
            await ada.publish(text, room="lab", channel="talk", ack=True)
            assert (await page.expect(message=text))["seq"]
        history = await page.request("history", room="lab", channel="talk")
        assert [row["message"] for row in history["messages"]] == ["one", "two"]
    telemetry = await WireClient.connect(
        host.url(config["telemetry_path"], "ws"),
        register=False,
        headers={"Cookie": browser.cookies},
        origin=origin,
    )
    async with telemetry:
        await telemetry.expect("telemetry_connected")


async def use_events(host: Host, config: dict[str, Any]) -> None:
    """A stream from its beginning."""
    headers = {"Authorization": f"Bearer {host.facts['ada_token']}"}
    address = host.url(f"{config['api_path']}channels/lab:rest/events?since=0")
    async with (
        httpx.AsyncClient(timeout=20, trust_env=False, headers=headers) as client,
        client.stream("GET", address) as response,
    ):
        assert response.status_code == 200
        assert [event.data["seq"] for event in await Reader(response).messages(3)] == [1, 2, 3]
    async with httpx.AsyncClient(
        base_url=host.url(config["api_path"]), timeout=20, trust_env=False, headers=headers
    ) as ada:
        opened = await ada.post("channels/lab:rest/messages", json={"stream": {}, "payload": {}})
        of = opened.json()["stream"]["of"]
        assert (await ada.post(f"streams/{of}/append", json={"n": 1, "delta": "Hello"})).status_code == 200
        assert (await ada.post(f"streams/{of}/end", json={"n": 1})).status_code == 200
        followed = await ada.get(f"streams/{of}/events", params={"as": "agui"})
        assert followed.status_code == 200
        assert [line.count("Hello") for line in followed.text.splitlines() if "delta" in line] == [1]


async def use_live_page(host: Host, config: dict[str, Any]) -> None:
    """A page of the project, and the HTML of a new message below its prefix, as it comes."""
    headers = {"Authorization": f"Bearer {host.facts['ada_token']}", "Accept-Encoding": "gzip", "Accept-Language": "en"}
    page_path = "/app/live-page/" if host.choice["prefix"] == "script" else "/live-page/"
    async with httpx.AsyncClient(timeout=20, trust_env=False, headers=headers) as ada:
        page = await ada.get(host.url(page_path))
        assert page.status_code == 200, page.text
        stream = re.search(r'data-bus-live="([^"]+)"', page.text)
        assert stream, page.text
        async with ada.stream("GET", host.url(html.unescape(stream[1]))) as response:
            assert (response.status_code, response.headers["content-encoding"]) == (200, "identity")
            sent = await ada.post(
                host.url(f"{config['api_path']}channels/lab:rest/messages"), json={"payload": {"number": 77}}
            )
            row = f'data: <li id="said-{sent.json()["seq"]}">77</li>'
            async for line in response.aiter_lines():
                if line == row:
                    break
                assert not line.startswith("event:"), line


async def use_admin(host: Host, browser: Visitor) -> None:
    """Each list, and a token for a user."""
    index = await browser.page("/office/")
    lists = sorted(set(re.findall(r'href="(/[^"]*/bus/\w+/)"', index)))
    assert len(lists) >= 7, index
    for path in lists:
        text = await browser.page(path)
        rows = re.findall(r'href="([^"]*/change/[^"]*)"', text)
        for row in rows[:1]:
            await browser.page(row)
    (tokens,) = (path for path in lists if path.endswith("/accesstoken/"))
    text = await browser.page(f"{tokens}add/")
    assert ("data-autocomplete" in text or "admin-autocomplete" in text) == (host.choice["users"] == "django")
    answer = await browser.submit(f"{tokens}add/", name="by hand", user=host.facts["ada_name"].removeprefix("user-"))
    assert (answer.status_code, "arq_tok_" in answer.text) == (200, True), answer.text[-3000:]
