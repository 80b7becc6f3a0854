"""The browser of the tests, and expectations of its pages. They wait as patiently as everything else here."""

from __future__ import annotations

import shutil
from typing import Any

from playwright import async_api, sync_api

#: Milliseconds, in place of Playwright's five seconds.
WAIT = 40_000

#: What Debian's Chromium needs in a container, and what keeps it from calling home.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

expect = async_api.expect
expect_sync = sync_api.expect
expect.set_options(timeout=WAIT)
expect_sync.set_options(timeout=WAIT)


def chromium() -> str | None:
    """The path of the system's Chromium, or None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def launching() -> dict[str, Any]:
    """The options with which Playwright starts the system's Chromium. Raises AssertionError where there is none."""
    program = chromium()
    assert program is not None, "no Chromium: apt-get install chromium"
    return {"executable_path": program, "args": ARGUMENTS, "timeout": WAIT}
