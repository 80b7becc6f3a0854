"""Many viewers while many rows change: each ends with the rows of the table, and a message is rendered once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.harness.backends import Backends, Storage
from tests.harness.server import ServerKind
from tests.live.conftest import LiveServer, make_table, serve
from tests.live.test_browsers import SCRIPTS, same, show
from tests.live.viewers import Viewer, come

#: The most threads and MiB of a process with 2,000 viewers.
THREADS, MEMORY = 40, 200


def threads(server: LiveServer) -> int:
    """How many threads the server's process has now."""
    return len(list(Path(f"/proc/{server.pid}/task").iterdir()))


async def look(server: LiveServer, count: int) -> int:
    """Let ``count`` viewers come, change one row, and return how many threads the process had at most."""
    most = 0

    async def count_threads() -> None:
        nonlocal most
        while True:
            most = max(most, threads(server))
            await asyncio.sleep(0.02)

    counting = asyncio.create_task(count_threads())
    viewers = await come(server, count)
    try:
        before = await asyncio.to_thread(server.rendered)
        await server.achange(texts=["one change"])
        await asyncio.gather(*(viewer.hears("one change") for viewer in viewers))
        assert await asyncio.to_thread(server.rendered) - before == 1
        assert {viewer.status for viewer in viewers} == {200}
    finally:
        counting.cancel()
        await asyncio.gather(*(viewer.leave() for viewer in viewers))
    assert "Traceback" not in server.log()
    return most


async def test_a_change_is_rendered_once_for_all_viewers_and_they_hold_no_threads(site: LiveServer) -> None:
    assert 0 < await look(site, 100) < THREADS


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_two_thousand_viewers_are_few_threads_and_little_memory(
    backends: Backends, storage: Storage, kind: ServerKind
) -> None:
    make_table(storage)
    server = serve(backends, storage, kind, {"ARQONBUS_CONNECTIONS_PER_PRINCIPAL": "0"})
    try:
        most_memory = 0

        async def watch() -> None:
            nonlocal most_memory
            while True:
                most_memory = max(most_memory, server.rss())
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch())
        most = await look(server, 2000)
        watching.cancel()
        print(f"{kind}: {most} threads, {most_memory / 2**20:.0f} MiB")
        assert most < THREADS
        assert most_memory < MEMORY * 2**20
    finally:
        server.kill()


@pytest.mark.chaos
@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.asyncio(loop_scope="session")
async def test_two_hundred_pages_end_with_the_rows_of_the_table(browser: Browser, own_site: LiveServer) -> None:
    site = own_site
    await site.achange(texts=["first", "<script>document.title = 'broken'</script>"])
    # Twenty at a time, so that a small machine can draw what changes.
    for turn in range(10):
        await site.achange(rate=100, seconds=300)
        shown = [await show(browser, site, SCRIPTS[(2 * turn + number) % 3]) for number in range(2)]
        viewers = [await Viewer(site).__aenter__() for _ in range(18)]
        await site.achange(stop=True)
        await asyncio.gather(*(viewer.hears("the end") for viewer in viewers))
        rows = await asyncio.to_thread(site.rows)
        for viewer in viewers:
            assert viewer.rows == rows, [set(viewer.rows.items()) ^ set(rows.items()), viewer.url, viewer.position]
            assert viewer.orders == []
        await same(site, shown, "after many changes")
        for page in shown:
            assert (await page.page.title(), page.faults, page.loads) == ("Rows", [], 1)
            await page.page.context.close()
        await asyncio.gather(*(viewer.leave() for viewer in viewers))
