"""Decisions in the console: a visitor with the right decides on a card, others only read it."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from tests.harness.server import BusServer

from .conftest import Connect, OpenConsole

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]


async def test_an_operator_decides_on_the_card_and_sees_what_became_of_it(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    token = shared_server.create_token(f"admin-{fresh_room}", admin=True)
    agent = await client(shared_server, client_id=f"agent-{fresh_room}")
    address, title = f"{fresh_room}:approvals", f"<b>Refund</b> {fresh_room}?"
    asked = asyncio.ensure_future(
        agent.decide_by_human(
            address, key="k", title=title, action="refund", args={"amount": 20}, allow=["edit", "respond", "reject"]
        )
    )
    page = await (await console(shared_server, token=token)).open("decisions")
    mine = page.get_by_role("region", name="For you to decide")
    card = mine.get_by_role("article", name=title)
    await expect(card.get_by_role("heading")).to_have_text(title)  # What others write is text.
    await card.get_by_role("button", name="Respond").click()
    await expect(card.get_by_role("alert")).to_have_text("Write the response first.")
    await card.get_by_role("button", name="Edit").click()
    await card.get_by_label("Arguments").fill('{"amount": 15')
    await card.get_by_role("button", name="Approve these").click()
    await expect(card.get_by_role("alert")).to_contain_text("Line 1")
    await card.get_by_label("Arguments").fill('{"amount": 15}')
    await card.get_by_label("Comment").fill("the rest")
    await card.get_by_role("button", name="Approve these").click()
    decision = await asked
    assert (decision.state, decision.args, decision.comment) == ("edited", {"amount": 15}, "the rest")
    made = page.get_by_role("region", name="Decided").get_by_role("article", name=title)
    await expect(made.locator(".outcome")).to_contain_text("edited by")
    await expect(card).to_have_count(0)  # The server may have questions of other tests.

    # The message that asks has the card, too. A message that only looks like one has none.
    await agent.publish(
        address, payload={"decision": {"decision": "arq_dec_nobody", "title": "false"}}, type="decision_made"
    )
    await page.evaluate("path => { location.hash = `#/${path}` }", f"messages/{address}")
    rows = page.locator(".message:not([hidden])")
    await rows.filter(has_text="· pending").click()
    await expect(page.locator(".detail .decision-state")).to_have_text("edited")
    await rows.filter(has_text="false").click()
    await expect(page.locator(".detail .badge").filter(has_text="decision_made")).to_be_visible()
    await expect(page.locator(".detail .decision")).to_have_count(0)
