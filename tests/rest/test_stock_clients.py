"""The clients of AG-UI and of Vercel's AI SDK, from npm and unchanged, show a whole answer that they met in the middle."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route

from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.rest.conftest import CallAs, Rest

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.browser,
    pytest.mark.needs("chromium", "node"),
    pytest.mark.asyncio(loop_scope="session"),
]

SOURCE = Path(__file__).with_name("stock_clients.mjs")
ESBUILD = PROJECT_ROOT / "node_modules" / ".bin" / "esbuild"
HTML = '<!doctype html><meta charset="utf-8"><body><script src="/stock/page.js"></script></body>'


def bundled() -> str:
    """The page's program, with both clients in it."""
    if not ESBUILD.exists():
        pytest.skip("the npm packages are missing: `make npm` installs them")
    options = ["--bundle", "--format=iife", "--log-level=error", '--define:process.env.NODE_ENV="production"']
    done = subprocess.run([ESBUILD, SOURCE, *options], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def program() -> str:
    """The page's program."""
    return await asyncio.to_thread(bundled)


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, program: str) -> AsyncIterator[Page]:
    """A tab in which each server has the page at /stock/."""

    async def give(route: Route) -> None:
        script = route.request.url.endswith(".js")
        await route.fulfill(
            body=program if script else HTML, content_type="text/javascript" if script else "text/html; charset=utf-8"
        )

    context = await browser.new_context()
    made = await context.new_page()
    made.set_default_timeout(30_000)
    await made.route("**/stock/**", give)
    yield made
    await context.close()


async def shown(page: Page) -> tuple[str, str]:
    """The text of the conversation, and the state that the client shows."""
    values: list[str] = await page.evaluate(
        "['#text', '#state'].map((place) => document.querySelector(place)?.textContent ?? '')"
    )
    return values[0], values[1]


async def shows(page: Page, text: str, *states: str) -> None:
    """Wait until the page shows the answer, in one of these states."""

    async def there() -> bool:
        found = await shown(page)
        return found[0] == f"Hello?|{text}" and (not states or found[1] in states)

    try:
        await wait_for(there, f"the page shows {text!r}")
    except AssertionError as late:
        raise AssertionError(f"{late}; it shows {await shown(page)}") from None


class Owner:
    """Writes the answer over REST."""

    def __init__(self, rest: Rest, room: str, mode: str) -> None:
        self._rest = rest
        body = {"stream": {"mode": mode}, "payload": {"role": "assistant"}}
        self.of = rest.ok("POST", f"channels/{room}:a/messages", body)["stream"]["of"]
        self._n = 0

    def say(self, part: Any) -> None:
        self._n += 1
        content = {"delta": part} if isinstance(part, str) else {"part": part}
        self._rest.ok("POST", f"streams/{self.of}/append", {"n": self._n, **content}, status=200)

    def end(self) -> None:
        self._rest.ok("POST", f"streams/{self.of}/end", {"n": self._n}, status=200)


def agui_parts(words: list[str]) -> list[dict[str, Any]]:
    """An agent's events: a text, with a run around it."""
    return [
        {"type": "RUN_STARTED", "threadId": "chat", "runId": "r1"},
        {"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant"},
        *({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": word} for word in words),
        {"type": "TEXT_MESSAGE_END", "messageId": "m1"},
        {"type": "RUN_FINISHED", "threadId": "chat", "runId": "r1"},
    ]


def vercel_parts(words: list[str]) -> list[dict[str, Any]]:
    """An agent's chunks: a text, with a message around it."""
    return [
        {"type": "start", "messageId": "m1"},
        {"type": "text-start", "id": "t1"},
        *({"type": "text-delta", "id": "t1", "delta": word} for word in words),
        {"type": "text-end", "id": "t1"},
        {"type": "finish"},
    ]


WORDS = ["Es ", "war ", "ein 🐟, ", "\n", "so ", "groß", "."]


@pytest.mark.parametrize("mode", ["text", "parts"])
@pytest.mark.parametrize(("client", "over"), [("agui", "finished"), ("vercel", "ready")])
async def test_a_stock_client_that_is_reloaded_in_the_middle_shows_the_whole_answer(
    shared_server: BusServer, call_as: CallAs, page: Page, fresh_room: str, client: str, over: str, mode: str
) -> None:
    owner = await asyncio.to_thread(Owner, call_as(shared_server), fresh_room, mode)
    makers = {"agui": agui_parts, "vercel": vercel_parts}
    parts: list[Any] = list(WORDS) if mode == "text" else makers[client](WORDS)
    words = parts.index(WORDS[0]) if mode == "text" else 2
    address = f"{shared_server.http_url}/stock/?of={owner.of}&client={client}"
    for part in parts[: words + 2]:
        await asyncio.to_thread(owner.say, part)
    await page.goto(address)
    await shows(page, "Es war ", "running", "streaming")
    await asyncio.to_thread(owner.say, parts[words + 2])
    await shows(page, "Es war ein 🐟, ", "running", "streaming")
    await page.reload()
    await shows(page, "Es war ein 🐟, ", "running", "streaming")
    for part in parts[words + 3 :]:
        await asyncio.to_thread(owner.say, part)
    await asyncio.to_thread(owner.end)
    await shows(page, "".join(WORDS), over)
    # A page that comes after the end.
    await page.reload()
    await shows(page, "".join(WORDS), over)
