"""The pictures of the documentation, taken of the demo. `make screenshots` runs this; other runs do not collect it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.harness.backends import Storage, clean_environment
from tests.harness.browser import expect
from tests.harness.processes import ManagedProcess
from tests.harness.server import BusServer
from tests.harness.waiting import free_port

from .conftest import OpenConsole

pytestmark = [
    pytest.mark.browser,
    pytest.mark.embedded,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 780}


async def test_screenshots(console: OpenConsole, storage: Storage, folder: Path) -> None:
    images = Path(os.environ["ARQONBUS_SCREENSHOTS"])
    server = BusServer(storage, folder, secret_key="unused", host="localhost")
    server.port = free_port("localhost")
    demo = ManagedProcess(
        [sys.executable, "manage.py", "demo", "--port", str(server.port), "--telemetry-port", "0"],
        log_path=folder / "demo.log",
        env=clean_environment({**storage.env(), "SECRET_KEY": "demo" * 20}),
    )
    demo.start()
    try:
        demo.wait_for_log("Demo: open", deadline=60)
        token = server_token(demo)
        dark = await console(server, token=token, viewport=WIDE, color_scheme="dark", device_scale_factor=1.5)
        light = await console(server, token=token, viewport=WIDE, color_scheme="light", device_scale_factor=1.5)
        phone = await console(
            server, token=token, viewport=PHONE, color_scheme="dark", device_scale_factor=2, is_mobile=True, has_touch=True
        )  # fmt: skip
        page = await dark.open()
        # The charts show the last two minutes; most of one should be filled.
        await page.wait_for_timeout(75_000)

        async def take(shown: Page, name: str) -> None:
            await shown.wait_for_timeout(1500)
            await shown.screenshot(path=images / f"{name}.png")

        await take(page, "console-overview")
        await dark.go("messages/science:execute")
        row = page.locator(".message:not([hidden])").filter(has_text="Run 5").first
        await row.click()
        await take(page, "console")
        await page.keyboard.press("Escape")
        await dark.go("messages/science:share")
        growing = page.locator(".message:not([hidden])").filter(has_text="writing").first
        await growing.click(timeout=60_000)
        await expect(page.locator(".answer-pane .said")).to_contain_text("We thought")
        await take(page, "console-answer")
        await page.keyboard.press("Escape")
        await dark.go("messages/science:samples")
        await expect(page.locator(".queue [data-figure=dead] b")).not_to_have_text("0", timeout=60_000)
        await page.get_by_role("button", name="Queue").click()
        await expect(page.locator(".queue-jobs .job-item.dead").first).to_be_visible()
        await take(page, "console-work")
        await page.get_by_role("button", name="Queue").click()
        await dark.go("agents")
        await take(page, "console-agents")
        await dark.go("commands")
        await page.get_by_label("Command", exact=True).fill("channel_info channel=science:share")
        await page.keyboard.press("Enter")
        await expect(page.locator(".log .json")).to_be_visible()
        await page.get_by_label("Command", exact=True).press_sequentially("history chan")
        await take(page, "console-commands")
        page = await light.open("overview")
        await take(page, "console-light")
        await light.go("clients/agent-noor")
        await take(page, "console-clients")
        page = await phone.open("messages/science:share")
        await take(page, "console-phone")
    finally:
        demo.terminate()
        demo.kill()


def server_token(demo: ManagedProcess) -> str:
    """An admin's token, so that the operations are in the pictures."""
    from tests.harness.backends import run_manage

    return run_manage("create_token", "screenshots", "--admin", env=demo.env).strip().splitlines()[-1]
