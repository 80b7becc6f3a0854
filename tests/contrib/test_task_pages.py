"""A server whose project has `bus.contrib.tasks`: Celery's tasks, and the page of a task that moves."""

from __future__ import annotations

import asyncio
import html
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.backends import Backends
from tests.harness.events import EventListener
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until

#: What the pages show does not depend on the database, and starting a server costs seconds.
pytestmark = pytest.mark.embedded

ENDED = {"succeeded", "failed", "cancelled"}


@pytest.fixture(scope="module")
def site(backends: Backends) -> Iterator[BusServer]:
    """One server of the project for the tests of this module."""
    storage = backends.new_storage()
    env = {"DJANGO_SETTINGS_MODULE": "tests.contrib.site.settings"}
    server = BusServer(storage, backends.new_path("server"), secret_key=backends.secret_key, env=env)
    server.start()
    yield server
    server.kill()
    backends.drop_storage(storage)


def told(site: BusServer, key: str) -> list[dict[str, Any]]:
    """What was told of a task, once it has ended."""

    def ended() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = site.get_json(f"/told/{key}")
        return found if found and found[-1]["state"] in ENDED else []

    return wait_until(ended, f"the end of the task {key}")


def states(messages: list[dict[str, Any]]) -> list[Any]:
    """What was told, in short: state, attempt and how much is done."""
    return [(one["state"], one["attempt"], one.get("progress", {}).get("done")) for one in messages]


async def follow(site: BusServer, page: str, token: str, last: str) -> list[str]:
    """What a viewer of a page sees in the bar, until `last` is in it."""
    (url,) = re.findall(r'data-bus-live="([^"]+)"', page)
    seen: list[str] = []

    def take(name: str, text: str) -> bool:
        seen.append(text)
        return last in text

    headers = {"Authorization": f"Bearer {token}"}
    listener = EventListener([site], html.unescape(url), take, headers=headers)
    await asyncio.wait_for(listener.run(), 30)
    return seen


async def test_tasks_of_celery_are_told_and_a_page_follows_them(site: BusServer) -> None:
    ids = await asyncio.to_thread(site.get_json, "/start")
    all_told = {name: await asyncio.to_thread(told, site, key) for name, key in ids.items()}
    counted = [("queued", 0, None), ("running", 1, None), ("running", 1, 1), ("running", 1, 2), ("succeeded", 1, 2)]
    assert states(all_told["counted"]) == states(all_told["django"]) == counted
    assert states(all_told["spoiled"]) == [*counted[:3], ("failed", 1, 1)]
    assert states(all_told["again"]) == [
        *counted[:2],
        ("retrying", 1, None),
        ("running", 2, None),
        ("succeeded", 2, None),
    ]
    assert states(all_told["late"]) == [counted[0], ("cancelled", 1, None)]
    errors = {name: [one["error"] for one in messages if "error" in one] for name, messages in all_told.items()}
    assert {name: found for name, found in errors.items() if found} == {
        "spoiled": ["LookupError"],
        "again": ["ConnectionError"],
        "late": ["Expired"],
    }
    assert "a secret of the task" not in str(all_told)

    # The room is private: a page shows a state, and only those who may read the channel see it move.
    admin = await asyncio.to_thread(site.create_token, "viewer", admin=True)
    over = (await asyncio.to_thread(site.get, f"/page/{ids['spoiled']}"))[1].decode()
    assert 'data-state="failed"' in over
    assert "failed: LookupError" in over
    (url,) = re.findall(r'data-bus-live="([^"]+)"', over)
    assert (await asyncio.to_thread(site.get, html.unescape(url)))[0] == 404

    # A page that was there before its task gets all of it, and a bar that needs no style of its own.
    key = str(uuid.uuid4())
    early = (await asyncio.to_thread(site.get, f"/page/{key}"))[1].decode()
    assert 'data-state="queued"' in early
    assert "style" not in early
    seen = asyncio.ensure_future(follow(site, early, admin, "succeeded"))
    assert (await asyncio.to_thread(site.get, f"/begin/{key}"))[0] == 200
    bars = re.findall(r"<progress[^>]*>", "".join(await seen))
    assert bars[-4:] == [
        "<progress>",
        '<progress value="1" max="2">',
        '<progress value="2" max="2">',
        '<progress value="1" max="1">',
    ]
