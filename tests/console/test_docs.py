"""The documentation as pages of the server: every page, without what only the site's generator understands."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from bus.console import docs
from tests.harness.processes import PROJECT_ROOT

PAGES = sorted(path.stem for path in (PROJECT_ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_each_page_is_shown_as_it_is_meant(name: str) -> None:
    client = Client()
    answer = client.get(f"/docs/{name}.md")
    assert answer.status_code == 200
    page = answer.content.decode()
    shown = re.sub(r"<pre>.*?</pre>|<code>.*?</code>", "", page.partition("<main>")[2], flags=re.DOTALL)
    for mark in ("--8<--", "!!! ", '=== "', "```", 'title="examples', "markdown>"):
        assert mark not in shown, mark
    # Links lead to other pages here.
    for link in re.findall(r'href="([a-z-]+\.md)(?:#[^"]*)?"', page):
        assert client.get(f"/docs/{link}").status_code == 200, link
    for picture in re.findall(r'src="(images/[^"]+)"', page):
        assert client.get(f"/docs/{picture}").status_code == 200, picture


def test_the_first_page_is_the_welcome_and_what_is_no_page_is_not_found() -> None:
    client = Client()
    welcome = client.get("/docs/").content.decode()
    for part in docs.parts():
        for name, title in part.pages.items():
            assert f'<a href="/docs/{name}.md">{title}</a>' in welcome
    for path in ("nothing.md", "../pyproject.md", "images/nothing.png", "images/..%2Findex.png", "index.txt"):
        assert client.get(f"/docs/{path}").status_code == 404, path
