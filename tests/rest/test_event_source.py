"""A browser's own EventSource: behind GZipMiddleware, through a restart, and told of what passes in the way that it bears."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.admin.conftest import Pages
from tests.conftest import StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import free_port, wait_for
from tests.rest.test_ways_out import HOST

pytestmark = [pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]

EVENTS = {"Accept": "text/event-stream"}

FOLLOW = """(url) => {
  globalThis.heard = [];
  globalThis.source = new EventSource(url);
  source.addEventListener("subscribed", () => heard.push("SUBSCRIBED"));
  source.addEventListener("closed", (event) => heard.push(JSON.parse(event.data).error.code));
  source.onmessage = (event) => heard.push(JSON.parse(event.data).message);
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A tab."""
    context = await browser.new_context()
    yield await context.new_page()
    await context.close()


async def publish(server: BusServer, address: str, text: str) -> None:
    path = f"/api/v1/channels/{address}/messages"
    assert (await asyncio.to_thread(server.request, "POST", path, {"message": text}))[0] == 201


async def heard(page: Page) -> list[str]:
    return list(await page.evaluate("heard"))


async def ask(server: BusServer, path: str, headers: dict[str, str]) -> httpx.Response:
    """The whole answer of a request that ends."""
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        return await client.get(f"{server.http_url}/api/v1/channels/{path}", headers=headers)


def told(answer: httpx.Response) -> str:
    """The code of the `closed` event that is all of a stream."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/event-stream"
    lines = answer.text.splitlines()
    assert lines[0].startswith("retry: ")
    assert int(lines[0][7:]) > 0
    assert lines[1] == "event: closed"
    code: str = json.loads(lines[2].removeprefix("data: "))["error"]["code"]
    return code


@pytest.mark.browser
@pytest.mark.needs("chromium")
async def test_every_event_comes_to_a_browser_behind_gzip_middleware(
    start_server: StartServer, page: Page, fresh_room: str
) -> None:
    server = await asyncio.to_thread(start_server, env=HOST)
    address = f"{fresh_room}:a"
    await publish(server, address, "m0")
    await page.goto(f"{server.http_url}/health")
    await page.evaluate(FOLLOW, f"/api/v1/channels/{address}/events?since=0")
    for number in (1, 2, 3):
        await wait_for(lambda number=number: _is(page, ["SUBSCRIBED", *(f"m{n}" for n in range(number))]), f"m{number}")  # type: ignore[misc]
        await publish(server, address, f"m{number}")
    await wait_for(lambda: _is(page, ["SUBSCRIBED", "m0", "m1", "m2", "m3"]), "all of them")


async def _is(page: Page, wanted: list[str]) -> bool:
    return await heard(page) == wanted


async def test_an_export_of_the_admin_is_whole_behind_gzip_middleware(
    start_server: StartServer, fresh_room: str
) -> None:
    server = await asyncio.to_thread(start_server, env=HOST)
    await asyncio.to_thread(server.create_superuser, "root")
    batch = {"messages": [{"channel": f"{fresh_room}:a", "message": f"m{n}"} for n in range(400)]}
    for _ in range(3):
        assert (await asyncio.to_thread(server.request, "POST", "/api/v1/messages", batch))[0] == 201
    pages = await asyncio.to_thread(Pages, server, "root")
    try:
        # As a browser reads it, which stops behind the first of several gzip streams.
        path, raw = f"/admin/bus/message/export/jsonl/?room={fresh_room}", b""
        with pages.client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
            raw = b"".join(answer.iter_raw())
            packed = answer.headers.get("Content-Encoding") == "gzip"
        text = gzip.decompress(raw) if packed and raw.count(b"\x1f\x8b\x08") == 1 else raw
        assert [json.loads(line)["seq"] for line in text.splitlines()] == list(range(1200, 0, -1))
        # What is no stream is packed as before.
        assert pages.client.get("/admin/bus/message/").headers["Content-Encoding"] == "gzip"
    finally:
        pages.client.close()


@pytest.mark.browser
@pytest.mark.needs("chromium")
async def test_an_event_source_outlives_a_restart_that_it_meets_in_the_middle(
    start_server: StartServer, page: Page, fresh_room: str
) -> None:
    server = await asyncio.to_thread(start_server)
    address = f"{fresh_room}:a"
    await publish(server, address, "before")
    await page.goto(f"{server.http_url}/health")
    await page.evaluate(FOLLOW, f"/api/v1/channels/{address}/events?since=0")
    await wait_for(lambda: _is(page, ["SUBSCRIBED", "before"]), "the stream is open")
    with socket.create_connection((server.host, server.port)) as stuck:
        # A peer that does not answer its close: the drain takes its time, in which the browser is back already.
        stuck.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        stuck.recv(65536)
        ending = asyncio.create_task(asyncio.to_thread(server.terminate))
        await wait_for(lambda: _drains(server), "the drain has begun")
        met = set()
        with contextlib.suppress(httpx.HTTPError):
            while not ending.done():
                met.add(told(await ask(server, f"{address}/events", EVENTS)))
        assert met == {"RESTARTING"}
        await ending
    await asyncio.to_thread(server.start)
    await publish(server, address, "after")
    await wait_for(lambda: _ends_with(page, "after"), "the same EventSource is back")
    assert await page.evaluate("source.readyState") == 1
    assert [text for text in await heard(page) if text in ("before", "after")] == ["before", "after"]


async def _drains(server: BusServer) -> bool:
    with contextlib.suppress(OSError):
        return (await asyncio.to_thread(server.get, "/ready"))[0] == 503
    return False


async def _ends_with(page: Page, text: str) -> bool:
    return (await heard(page))[-1:] == [text]


async def test_what_passes_is_told_in_a_stream_and_what_stays_is_an_error(
    start_server: StartServer, fresh_room: str
) -> None:
    path = f"{fresh_room}:a/events"
    limited = await asyncio.to_thread(
        start_server, env={"ARQONBUS_RATE_LIMIT": "0.01", "ARQONBUS_RATE_BURST": "4", "ARQONBUS_CONNECTIONS": "1"}
    )
    await publish(limited, f"{fresh_room}:a", "x")
    async with (
        httpx.AsyncClient(timeout=20, trust_env=False) as client,
        client.stream("GET", f"{limited.http_url}/api/v1/channels/{path}", headers=EVENTS) as held,
    ):
        assert held.status_code == 200
        assert told(await ask(limited, path, EVENTS)) == "LIMIT_REACHED"
        # Who did not ask for events gets an error as everywhere.
        assert (await ask(limited, path, {})).status_code == 429
        answers = [await ask(limited, path, EVENTS) for _ in range(2)]
        assert told(answers[-1]) == "RATE_LIMITED"
        assert int(answers[-1].headers["Retry-After"]) > 1
    away = await asyncio.to_thread(
        start_server, env={"DATABASE_URL": f"postgres://bus@127.0.0.1:{free_port()}/bus"}, wait=False
    )
    await wait_for(lambda: _answers(away), "the server is up, its database is not")
    assert told(await ask(away, path, EVENTS)) == "UNAVAILABLE"
    assert (await ask(away, path, {})).status_code == 503
    server = await asyncio.to_thread(start_server)
    await publish(server, f"{fresh_room}:a", "x")
    for headers, number, where in (
        ({"Authorization": "Bearer wrong"}, 401, path),
        ({}, 404, f"{fresh_room}:none/events"),
        ({"Last-Event-ID": "x"}, 400, path),
    ):
        answer = await ask(server, where, {**EVENTS, **headers})
        assert answer.status_code == number, answer.text
        assert answer.headers["Content-Type"] == "application/json"


async def _answers(server: BusServer) -> bool:
    with contextlib.suppress(OSError):
        return (await asyncio.to_thread(server.get, "/health"))[0] == 200
    return False
