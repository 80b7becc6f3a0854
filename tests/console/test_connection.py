"""Coming in, and coming back: the door, reconnecting, the lines of the empty page, the demo, and the first five minutes."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import Page

import arqonbus
from tests.conftest import StartServer
from tests.harness.backends import Storage, clean_environment
from tests.harness.browser import expect
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import BusServer
from tests.harness.waiting import free_port, wait_until

from .conftest import Connect, OpenConsole

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]

PRODUCTION = {"DEBUG": "0", "INSECURE_HTTP": "1"}


async def run_shown(page: Page, language: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Copy the lines of a language as a visitor does, and run them in a shell of its own in an unrelated folder."""
    await page.get_by_role("tab", name=language).click()
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    text = await page.evaluate("navigator.clipboard.readText()")
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ARQONBUS_", "PYTEST_", "PYTHONPATH", "DJANGO"))
    }
    run = subprocess.run
    return await asyncio.to_thread(
        run, ["bash", "-c", text], cwd=folder, env=kept, capture_output=True, text=True, timeout=60
    )


async def test_after_a_kill_and_restart_the_page_comes_back_and_shows_every_message_once(
    console: OpenConsole, client: Connect, start_server: StartServer, fresh_room: str
) -> None:
    server, address = start_server(), f"{fresh_room}:stream"
    writer = await client(server, client_id="writer")
    await writer.publish(address, "message 1")
    opened = await console(server)
    opened.allowed += [
        "ERR_CONNECTION_REFUSED",
        "WebSocket connection",
        "Failed to load resource",
        "ERR_CONNECTION_RESET",
    ]
    page = await opened.open(f"messages/{address}")
    await expect(page.get_by_text("message 1", exact=True)).to_be_visible()
    back = asyncio.Event()
    sending = asyncio.create_task(_send(writer, address, back))
    await expect(page.locator("[data-total]")).to_have_attribute("data-total", re.compile(r"^\d{3,}$"))
    await asyncio.to_thread(server.kill)
    await expect(page.locator("#connection.reconnecting")).to_be_visible()
    await expect(page.get_by_text("reconnects by itself")).to_be_visible()
    await asyncio.to_thread(server.start)
    await page.wait_for_selector("#connection.connected")
    back.set()
    last = await sending
    await expect(page.locator(".message").first.locator(".content")).to_have_text(f"message {last}")
    seqs = await page.evaluate("arqonbus.view.log.held.map(item => item.frame.seq)")
    assert seqs == list(range(1, last + 1))
    await expect(page.locator(f"[data-total='{last}']")).to_be_visible()


async def _send(bus: arqonbus.Bus, address: str, back: asyncio.Event) -> int:
    """Publish without a pause, also while the server is away, and a few more when it is back; the last one's number."""
    number, more = 1, 50
    while more:
        number += 1
        await bus.publish(address, f"message {number}")
        more -= back.is_set()
    return number


async def test_in_production_the_door_asks_for_a_log_in_or_a_token_and_says_what_is_wrong(
    console: OpenConsole, start_server: StartServer
) -> None:
    server = start_server(env=PRODUCTION)
    token = server.create_token("visitor")
    create = "from django.contrib.auth.models import User; User.objects.create_user('grace', password='hopper-1906')"
    server.manage("shell", "--verbosity", "0", "--command", create)
    opened = await console(server)
    page = opened.page
    await page.goto(server.http_url)
    await expect(page.get_by_text("This bus needs to know who you are")).to_be_visible()
    await page.get_by_label("Access token").fill("arq_tok_wrong")
    await page.get_by_role("button", name="Open the console").click()
    await expect(page.get_by_role("alert")).to_have_text("The credentials are not valid.")
    await page.get_by_label("Access token").fill(token)
    await page.get_by_role("button", name="Open the console").click()
    await page.wait_for_selector("#connection.connected")
    await expect(page.get_by_text("token · user")).to_be_visible()
    # What the visitor may not see says so, and what to do.
    await expect(page.get_by_text("No figures for you")).to_be_visible()
    await page.get_by_role("button", name="Forget token").click()
    await expect(page.get_by_text("This bus needs to know who you are")).to_be_visible()

    await page.get_by_role("link", name="Log in").click()
    await page.get_by_label("User name").fill("grace")
    await page.get_by_label("Password").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("correct username and password")
    await page.get_by_label("Password").fill("hopper-1906")
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_selector("#connection.connected")
    await expect(page.get_by_text("grace · user")).to_be_visible()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_text("This bus needs to know who you are")).to_be_visible()


async def test_the_demo_is_alive_in_the_page_and_its_log_in_works_in_admin_and_console(
    console: OpenConsole, storage: Storage, folder: Path
) -> None:
    port = free_port()
    demo = ManagedProcess(
        [sys.executable, "manage.py", "demo", "--host", "127.0.0.1", "--port", str(port), "--telemetry-port", "0"],
        log_path=folder / "demo.log",
        env=clean_environment({**storage.env(), "SECRET_KEY": "demo" * 20, "ALLOWED_HOSTS": "127.0.0.1"}),
    )
    demo.start()
    try:
        line = await asyncio.to_thread(
            wait_until,
            lambda: re.search(r"Demo: open (\S+) and log in as (\S+) with (\S+)", demo.log()),
            "the demo's line",
        )
        assert line is not None
        url, user, password = line.groups()
        server = BusServer(storage, folder, secret_key="unused")
        server.port = port
        opened = await console(server)
        page = opened.page
        await page.goto(f"{url}admin/")
        await page.get_by_label("Username").fill(user)
        await page.get_by_label("Password").fill(password)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("link", name="Live console").click()
        await page.wait_for_selector("#connection.connected")
        await expect(page.get_by_text("demo · admin")).to_be_visible()
        for step in ("explore", "hypothesize", "design", "execute", "interpret", "share"):
            await opened.go(f"messages/science:{step}")
            await expect(page.get_by_role("heading", name=f"science:{step}")).to_be_visible()
            await expect(page.locator(".message:not([hidden])").first).to_be_visible()
        await opened.go("messages/science:samples")
        await expect(
            page.locator(".message.notice:not([hidden])").filter(has_text="finished job").first
        ).to_be_visible()
        await opened.go("clients/agent-pia")
        await expect(page.locator(".detail .facts .badge").filter(has_text="measure")).to_be_visible()
        await expect(page.locator(".detail .facts")).to_contain_text(re.compile("measure P-|waiting for samples"))
        await opened.go("agents")
        await expect(page.get_by_role("img", name=re.compile("agent-iris: .*agent-theo: "))).to_be_visible()
        await opened.close()
    finally:
        code = await asyncio.to_thread(demo.terminate)
        demo.kill()
    assert code == 0, demo.log()
    assert "Traceback" not in demo.log()
    # The line with the log-in stays in sight: clients that come and go do not push it away.
    assert " INFO " not in demo.log()


async def test_five_minutes_to_a_smile(console: OpenConsole, folder: Path) -> None:
    """Clone, `make run`, open the page, copy the shown lines into a second terminal, see the messages in the explorer."""
    clone = folder / "arqonbus"
    # What the working tree has, as a clone of its next commit would have it.
    listed = await asyncio.to_thread(
        subprocess.run,
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        check=True,
    )
    archive = await asyncio.to_thread(
        subprocess.run,
        ["tar", "--null", "--ignore-failed-read", "--files-from=-", "--create"],
        cwd=PROJECT_ROOT,
        input=listed.stdout,
        capture_output=True,
    )
    clone.mkdir()
    await asyncio.to_thread(
        subprocess.run, ["tar", "--extract", "--directory", str(clone)], input=archive.stdout, check=True
    )
    port, telemetry = free_port(), free_port()
    environment = clean_environment()
    del environment["PYTHONPATH"]
    # The packages are those of this test's environment: installing them again would test PyPI.
    prefix = Path(sys.prefix)
    for stamp in (".installed-run", ".installed-dev"):
        (prefix / stamp).touch()
    make = ManagedProcess(
        ["make", "-C", str(clone), "run", f"PORT={port}", f"TELEMETRY_PORT={telemetry}", f"VENV={prefix}"],
        log_path=folder / "make.log",
        env=environment,
    )
    make.start()
    try:
        log = await asyncio.to_thread(
            wait_until, lambda: make.log() if "Console" in make.log() else "", "make run says where the console is", deadline=90
        )  # fmt: skip
        url = re.search(r"Console\s+(http://\S+)", log)
        assert url is not None
        server = BusServer(Storage("sqlite:///unused"), folder, secret_key="unused", host="localhost")
        server.port = port
        assert url.group(1) == f"{server.http_url}/"
        opened = await console(server, permissions=["clipboard-read", "clipboard-write"])
        page = await opened.open()
        await expect(page.get_by_text("Send the first message")).to_be_visible()
        await page.get_by_role("link", name="Open science:explore").click()
        await expect(page.get_by_text("No message yet")).to_be_visible()
        curl = await run_shown(page, "curl", folder)
        assert curl.returncode == 0, curl.stderr
        await expect(page.locator(".message .content").first).to_have_text("Hello from curl")
        # The explorer has a message now; the lines stay in reach.
        await opened.go("start")
        python = await run_shown(page, "Python", folder)
        assert python.returncode == 0, python.stderr
        await page.get_by_role("tab", name="JavaScript").click()
        await page.evaluate("(async () => { " + (await page.locator(".snippet").inner_text()) + " })()")
        await page.get_by_role("link", name="science:explore", exact=True).click()
        texts = page.locator(".message:not([hidden]) .content")
        await expect(texts).to_have_text(["Hello from JavaScript", "Hello from Python", "Hello from curl"])
        await opened.close()
    finally:
        make.terminate()
        make.kill()
