"""REST and event streams for pages of other origins: those of the setting, with a token, and nobody else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.clients_javascript.test_other_origin import elsewhere
from tests.conftest import StartServer
from tests.harness.server import BusServer, ServerKind
from tests.security.conftest import PRODUCTION

__all__ = ["elsewhere"]

pytestmark = [pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]

APP = "https://app.example"
#: The question that a browser asks before a request with a token.
ASKED = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,content-type"}

CALL = """async ([root, token, room, credentials]) => {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const call = (method, path, body) =>
    fetch(`${root}/${path}`, { method, headers, credentials, body: body && JSON.stringify(body) });
  const made = await call("POST", `channels/${room}:a/messages`, { message: "from elsewhere" });
  const page = await (await call("GET", `channels/${room}:a/messages`)).json();
  const refused = await call("PATCH", "rooms/no-such-room", { private: true });
  const event = await new Promise((resolve, reject) => {
    const source = new EventSource(`${root}/channels/${room}:a/events?since=0`);
    source.onmessage = (message) => { source.close(); resolve(JSON.parse(message.data).message); };
    source.onerror = () => { source.close(); reject(new Error("no events")); };
  });
  return [made.status, page.results[0].message, refused.status, (await refused.json()).error.code, event];
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, elsewhere: str) -> AsyncIterator[Page]:
    """A page of another site."""
    context = await browser.new_context()
    made = await context.new_page()
    await made.goto(elsewhere)
    yield made
    await context.close()


def answer_to(server: BusServer, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    with httpx.Client(base_url=server.http_url, timeout=20, trust_env=False) as client:
        return client.request(method, path, headers=headers)


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_the_origins_of_the_setting_may_read_and_no_others(start_server: StartServer, kind: ServerKind) -> None:
    server = await asyncio.to_thread(start_server, kind, env={**PRODUCTION, "ARQONBUS_ALLOWED_ORIGINS": APP})
    for path in ("/api/v1/me", "/api/v1/rooms", "/api/v1/channels/no:such/events", "/api/openapi.json", "/mcp"):
        answer = answer_to(server, "GET", path, {"Origin": APP})
        assert answer.headers["Access-Control-Allow-Origin"] == APP, path
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]
        asked = answer_to(server, "OPTIONS", path, {"Origin": APP, **ASKED})
        assert (asked.status_code, asked.headers["Access-Control-Allow-Origin"]) == (204, APP), path
        assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
        assert "authorization" in asked.headers["Access-Control-Allow-Headers"].lower()
        for other in ("https://evil.example", f"{APP}.evil.example", f"{APP}:444", "http://app.example", "null", "*"):
            for method, more in (("GET", {}), ("OPTIONS", ASKED)):
                refused = answer_to(server, method, path, {"Origin": other, **more})
                assert "Access-Control-Allow-Origin" not in refused.headers, (path, other, method)
    # Only what is REST's: pages with a session stay their own.
    for path in ("/", "/admin/login/", "/ready", "/metrics"):
        for method, more in (("GET", {}), ("OPTIONS", ASKED)):
            left = answer_to(server, method, path, {"Origin": APP, **more})
            assert "Access-Control-Allow-Origin" not in left.headers, path


@pytest.mark.browser
@pytest.mark.needs("chromium")
async def test_a_page_of_another_site_calls_with_a_token_and_never_with_a_cookie(
    start_server: StartServer, page: Page, elsewhere: str, fresh_room: str
) -> None:
    origin = elsewhere.rstrip("/")
    server = await asyncio.to_thread(start_server, env={**PRODUCTION, "ARQONBUS_ALLOWED_ORIGINS": origin})
    token = await asyncio.to_thread(server.create_token, "app", admin=True)
    root = f"{server.http_url}/api/v1"
    found = await page.evaluate(CALL, [root, token, fresh_room, "omit"])
    assert found == [201, "from elsewhere", 404, "ROOM_NOT_FOUND", "from elsewhere"]
    with pytest.raises(Exception, match="Failed to fetch"):
        await page.evaluate(CALL, [root, token, fresh_room, "include"])
    closed = await asyncio.to_thread(start_server, env=PRODUCTION)
    with pytest.raises(Exception, match="Failed to fetch"):
        await page.evaluate(CALL, [f"{closed.http_url}/api/v1", token, fresh_room, "omit"])


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_a_refusal_for_the_rate_goes_out_with_its_reason(start_server: StartServer, kind: ServerKind) -> None:
    server = await asyncio.to_thread(
        start_server, kind, env={"ARQONBUS_RATE_LIMIT": "0.01", "ARQONBUS_RATE_BURST": "1"}
    )

    def first_line() -> bytes:
        with socket.create_connection((server.host, server.port), timeout=20) as line:
            line.sendall(b"GET /api/v1/rooms HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return line.makefile("rb").readline().rstrip()

    assert await asyncio.to_thread(first_line) == b"HTTP/1.1 200 OK"
    assert await asyncio.to_thread(first_line) == b"HTTP/1.1 429 Too Many Requests"
