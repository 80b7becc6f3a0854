"""Live pages in a real browser under the strict CSP: with htmx 2, with htmx 4, and with the script of the bus."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Error, Page, Route

from tests.harness.processes import PROJECT_ROOT
from tests.harness.waiting import wait_for
from tests.live.conftest import LiveServer

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SCRIPTS = ("own", "htmx2", "htmx4")
ROWS = """() => [...document.querySelectorAll("#rows > tr")]
            .map((row) => [row.id.replace("row-", ""), row.textContent.trim()])"""


class Shown:
    """A page of the rows, how often it was loaded, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.loads = 0
        self.faults: list[str] = []
        page.on("load", lambda _: self._loaded())
        page.on("console", lambda said: self.faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda problem: self.faults.append(str(problem)))

    def _loaded(self) -> None:
        self.loads += 1

    async def rows(self) -> dict[str, str]:
        """What it shows; nothing while it is loaded."""
        try:
            found: list[tuple[str, str]] = await self.page.evaluate(ROWS)
        except Error:
            return {}
        return dict(found) if len(dict(found)) == len(found) else {"twice": str(found)}


async def show(browser: Browser, site: LiveServer, by: str) -> Shown:
    """Open a page of the rows with the scripts of this name."""
    shown = Shown(await (await browser.new_context()).new_page())
    async with shown.page.expect_request(lambda request: "/events?at=" in request.url):
        await shown.page.goto(f"{site.http_url}/rows/?by={by}")
    return shown


async def same(site: LiveServer, pages: list[Shown], what: str) -> None:
    """Wait until each page shows exactly the rows of the table."""
    rows = await asyncio.to_thread(site.rows)
    for shown in pages:

        async def equal(shown: Shown = shown) -> bool:
            return await shown.rows() == rows

        try:
            await wait_for(equal, f"{what}: {shown.page.url}")
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{rows}\n{await shown.rows()}\n{shown.faults}\n{site.log()}") from None


@pytest.mark.skipif(not (PROJECT_ROOT / "node_modules" / "htmx4").is_dir(), reason="needs the npm packages")
async def test_each_script_shows_the_rows_survives_a_restart_and_reloads_once(
    browser: Browser, own_site: LiveServer
) -> None:
    site = own_site
    text = "<script>document.title = 'broken'</script><b onclick='1'>bold</b>"
    await site.achange(texts=["one", "two", text])
    pages = [await show(browser, site, by) for by in SCRIPTS]
    await site.achange(texts=[text, "three"], rate=100, seconds=1)
    await wait_for(lambda: asyncio.to_thread(lambda: "the end" in site.rows().values()), "the changes are over")
    await same(site, pages, "live")
    for shown in pages:
        assert (await shown.page.title(), shown.faults, shown.loads) == ("Rows", [], 1)

    # A proxy that answers while the server restarts ends the stream for good, and htmx 2 opens another one.
    refused = asyncio.Event()

    async def refuse(route: Route) -> None:
        await route.fulfill(status=502)
        refused.set()

    await pages[SCRIPTS.index("htmx2")].page.route("**/events?at=*", refuse, times=1)
    await asyncio.to_thread(site.restart)
    await wait_for(refused.is_set, "htmx 2 is refused once")
    await site.achange(texts=["after the restart"])
    await same(site, pages, "after a restart")
    assert [shown.loads for shown in pages] == [1, 1, 1]

    await asyncio.to_thread(site.kill)
    storage = site.storage
    storage.execute("DELETE FROM bus_message")
    storage.execute("UPDATE bus_channel SET head = head + 5")
    storage.execute("INSERT INTO live_row (text) VALUES ('nobody was told')")
    await asyncio.to_thread(site.start)
    await same(site, pages, "after lost messages")
    await site.achange(texts=["and on"])
    await same(site, pages, "after the reload")
    assert [shown.loads for shown in pages] == [2, 2, 2]
    for shown in pages:
        await shown.page.context.close()
