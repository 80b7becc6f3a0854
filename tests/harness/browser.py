"""Expectations of pages in a browser. They wait as patiently as everything else here, and not for Playwright's five seconds."""

from __future__ import annotations

from playwright import async_api, sync_api

#: Milliseconds.
WAIT = 40_000

expect = async_api.expect
expect_sync = sync_api.expect
expect.set_options(timeout=WAIT)
expect_sync.set_options(timeout=WAIT)
