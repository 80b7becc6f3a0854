"""The JavaScript client's type declarations, held against the module as a browser runs it."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser

from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]

#: What the module exports: of a class the public names of its prototype and of those it extends here, of a function or
#: constant null.
EXPORTS = """async (url) => {
  const names = (prototype) =>
    [Object.prototype, Error.prototype].includes(prototype)
      ? []
      : [...Object.getOwnPropertyNames(prototype), ...names(Object.getPrototypeOf(prototype))];
  return Object.fromEntries(Object.entries(await import(url)).map(([name, value]) => [
    name,
    /^class\\b/.test(String(value))
      ? names(value.prototype).filter((each) => each !== "constructor" && !each.startsWith("_"))
      : null,
  ]));
}"""


async def test_the_types_declare_what_the_module_has_and_nothing_else(
    browser: Browser, shared_server: BusServer
) -> None:
    page = await browser.new_page()
    try:
        await page.goto(f"{shared_server.http_url}/version")
        exports = await page.evaluate(EXPORTS, f"{shared_server.http_url}/static/arqonbus/arqonbus.js")
    finally:
        await page.close()
    types = (PROJECT_ROOT / "clients" / "javascript" / "arqonbus.d.ts").read_text()
    assert exports.keys() == set(re.findall(r"^export declare (?:class|function|const) (\w+)", types, re.M))
    classes = dict(re.findall(r"^export declare class (\w+)[^{]*(\{.*?\}$)", types, re.M | re.S))
    assert classes.keys() == {name for name, members in exports.items() if members is not None}
    bases = dict(re.findall(r"^export declare class (\w+) extends (\w+)", types, re.M))
    for name, own in classes.items():
        # What a class inherits is declared with its base.
        block = own + "\n" + classes.get(bases.get(name, ""), "")
        members = set(exports[name])
        methods = set(re.findall(r"^  (\w+)(?:<[^>]*>)?\(", block, re.M)) - {"constructor"}
        fields = set(re.findall(r"^  (?:readonly )?(\w+):", block, re.M))
        assert methods <= members, f"{name} has no {methods - members}"
        assert members <= methods | fields, f"{name}: {members - methods - fields} are not declared"
