"""The built site is whole: no broken link, nothing loaded from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bus.console import docs
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

DOCS = PROJECT_ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.pure
def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    text = (PROJECT_ROOT / "mkdocs.yml").read_text()
    in_navigation = set(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"])))
    assert in_navigation == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    for page in in_navigation:
        name = page.removesuffix(".md")
        assert (site / ("index.html" if name == "index" else f"{name}/index.html")).exists()


@pytest.mark.pure
def test_the_navigation_and_the_index_page_list_the_same_pages_in_the_same_parts() -> None:
    navigation = yaml.safe_load((PROJECT_ROOT / "mkdocs.yml").read_text())["nav"]
    listed = {
        title: {page.removesuffix(".md"): name for entry in pages for name, page in entry.items()}
        for part in navigation
        for title, pages in part.items()
        if isinstance(pages, list)
    }
    assert list(listed) == ["Tutorial", "How-to", "Reference", "Explanation"]
    assert {part.title: part.pages for part in docs.parts()} == listed


@pytest.mark.pure
def test_the_django_page_shows_the_files_of_the_example_as_they_are() -> None:
    text = (DOCS / "django.md").read_text(encoding="utf-8")
    shown = re.findall(r"^<!-- from (\S+) -->\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(shown) == 8
    for path, code in shown:
        file = (PROJECT_ROOT / path).read_text(encoding="utf-8")
        # A whole file, or its end. In the second case the page leaves out what every Django project has.
        assert f"\n\n{file}".endswith(f"\n\n{code}"), f"docs/django.md does not show {path} as it is"


@pytest.mark.pure
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|link|img|iframe|source)\b[^>]*?\s(?:src|href)=\"?((?:https?:)?//[^\s\">]+)", re.IGNORECASE
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 5
    found = {url for page in pages for url in loads.findall(page.read_text(encoding="utf-8"))}
    assert {url for url in found if not url.startswith("http://localhost:8765/")} == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", styles) == []


@pytest.mark.pure
def test_the_index_for_language_models_leads_to_pages_that_are_there(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert text.startswith("# ArqonBus\n\n> ")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) >= 6
    for link in links:
        assert (site / link / "index.html").exists(), link


def test_a_server_tells_language_models_its_own_addresses_and_commands(shared_server: BusServer) -> None:
    status, body = shared_server.get("/llms.txt")
    text = body.decode()
    assert status == 200
    assert f"ws://{shared_server.host}:{shared_server.port}/" in text
    assert f"{shared_server.http_url}/mcp " in text
    assert "- `history`: Past messages" in text
    for link in re.findall(r"\]\((http[^)]+)\)", text):
        assert shared_server.get(link.removeprefix(shared_server.http_url))[0] == 200, link
