"""The documentation as pages of the running server.

The pages are the Markdown files of ``docs/``, from which ``make docs`` also builds the site. ``docs/index.md`` gives the order.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import markdown
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from ..conf.settings import documentation

FOLDER = documentation()
_PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}
_EXTENSIONS = ("fenced_code", "tables", "toc")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
#: A heading of the index, or an item of the list below it: a page's title and name.
_INDEX_LINE = re.compile(r"^## (?P<part>.+)$|^- \[(?P<title>[^\]]+)\]\((?P<name>[\w-]+)\.md\)", re.MULTILINE)


class Part(NamedTuple):
    """One part of the documentation, such as "Reference", with the titles of its pages by name."""

    title: str
    pages: dict[str, str]


@require_safe
def page(request: HttpRequest, name: str = "index") -> HttpResponse:
    """Answer with one page of the documentation. Raises ``Http404``."""
    text = _text(name)
    if text is None:
        raise Http404(f"There is no page {name} in the documentation.")
    heading = _TITLE.search(text)
    context: dict[str, Any] = {
        "title": heading[1] if heading else name,
        "text": _html(name),
        "parts": parts(),
        "current": name,
    }
    return render(request, "bus/docs.html", context)


@require_safe
def picture(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with one picture of the documentation. Raises ``Http404``."""
    path = Path(name)
    if FOLDER is None or path.suffix not in _PICTURES or not (FOLDER / "images" / path.name).is_file():
        raise Http404("There is no such picture in the documentation.")
    return HttpResponse((FOLDER / "images" / path.name).read_bytes(), content_type=_PICTURES[path.suffix])


@lru_cache(maxsize=1)
def parts() -> list[Part]:
    """List the parts and pages in the order of the index. A heading without pages below it is no part."""
    found: list[Part] = []
    for line in _INDEX_LINE.finditer(_text("index") or ""):
        if line["part"]:
            found.append(Part(line["part"], {}))
        elif found:
            found[-1].pages[line["name"]] = line["title"]
    return [part for part in found if part.pages]


def _text(name: str) -> str | None:
    """Read the Markdown of a page. None means that there is no such page."""
    file = FOLDER / f"{name}.md" if FOLDER else None
    return file.read_text(encoding="utf-8") if file and file.is_file() else None


@lru_cache(maxsize=64)
def _html(name: str) -> str:
    """Turn a page that exists into HTML."""
    return markdown.markdown(_text(name) or "", extensions=_EXTENSIONS, output_format="html")
