"""The documentation as pages of the running server: the same Markdown that ``make docs`` makes a site of."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import markdown
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from ..conf.settings import documentation

FOLDER = documentation()
#: The pages in the order in which one reads them; those that are not named here follow.
FIRST = (
    "index",
    "quickstart",
    "concepts",
    "how-to",
    "django",
    "clients",
    "clients-javascript",
    "console",
    "rest",
    "protocol",
)
_PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}
_EXTENSIONS = ("admonition", "attr_list", "fenced_code", "md_in_html", "tables", "toc")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
#: The name of a file beside the language of a block, and a block that is taken from a file.
_FENCE = re.compile(r'^(```\w+) title="([^"]+)"$', re.MULTILINE)
#: A tab of several, whose content is indented: here they stand one below the other.
_TAB = re.compile(r'^=== "([^"]+)"\n((?:(?: {4}.*)?\n)+)', re.MULTILINE)
_INDENT = re.compile(r"^ {4}", re.MULTILINE)
_SNIPPET = re.compile(r'^--8<-- "([^":]+)(?::(\w+))?"$', re.MULTILINE)


@require_safe
def page(request: HttpRequest, name: str = "index") -> HttpResponse:
    """A page of the documentation. Raises ``Http404``."""
    if FOLDER is None or name not in titles():
        raise Http404(f"There is no page {name} in the documentation.")
    rows = [{"name": each, "title": title, "current": each == name} for each, title in titles().items()]
    context: dict[str, Any] = {"title": titles()[name], "text": _html(name), "pages": rows}
    return render(request, "bus/docs.html", context)


@require_safe
def picture(request: HttpRequest, name: str) -> HttpResponse:
    """A picture of the documentation. Raises ``Http404``."""
    path = Path(name)
    if FOLDER is None or path.suffix not in _PICTURES or not (FOLDER / "images" / path.name).is_file():
        raise Http404("There is no such picture in the documentation.")
    return HttpResponse((FOLDER / "images" / path.name).read_bytes(), content_type=_PICTURES[path.suffix])


@lru_cache(maxsize=1)
def titles() -> dict[str, str]:
    """The pages by name, with the title of each."""
    if FOLDER is None:
        return {}
    found = {path.stem: path for path in sorted(FOLDER.glob("*.md"))}
    ordered = [name for name in FIRST if name in found] + [name for name in found if name not in FIRST]
    headings = {name: _TITLE.search(found[name].read_text(encoding="utf-8")) for name in ordered}
    return {name: heading[1] for name, heading in headings.items() if heading}


@lru_cache(maxsize=64)
def _html(name: str) -> str:
    assert FOLDER is not None
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    text = _TAB.sub(lambda found: f"**{found[1]}**\n{_INDENT.sub('', found[2])}", text)
    text = _SNIPPET.sub(lambda found: _taken(found[1], found[2]), _FENCE.sub(r"*\2*\n\n\1", text))
    return markdown.markdown(text, extensions=_EXTENSIONS, output_format="html")


def _taken(path: str, part: str | None) -> str:
    """A file of the project, or what stands in it between the marks of ``part``; its name where it is not here."""
    assert FOLDER is not None
    file = FOLDER.parent / path
    if not file.is_file():
        return f"(the file {path} of the repository)"
    lines = file.read_text(encoding="utf-8").splitlines()
    if part is not None:
        marks = [number for number, line in enumerate(lines) if "--8<-- [" in line and f":{part}]" in line]
        lines = lines[marks[0] + 1 : marks[1]]
    return "\n".join(line for line in lines if "--8<--" not in line)
