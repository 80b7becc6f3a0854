"""The pages are in plain English: short sentences, each with a subject, in the words of the field."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure

PAGES = sorted(
    path.relative_to(PROJECT_ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "examples/README.md", "examples/*/README.md", "clients/*/README.md")
    for path in PROJECT_ROOT.glob(pattern)
)
#: We write at most 25 words a sentence. A few sentences with a list in them are longer, and none has more words than this.
MOST_WORDS = 32
#: What we do not write, and what we write instead.
REFUSED = {
    r"contract §": "a link to a heading of docs/protocol.md",
    r"(?i)\b(?:is|are|was|were|be) told\b": "receives, gets an error, the server answers …",
    r"(?i)\bwhoever\b": "a client that, a user who …",
    r"^Who (?!.*\?$)": "a noun: a publisher that, a client that …",
    r"^What (?!.*\?$)": "a noun: the value that, the message that …",
    r"^That (?:is|are) ": "a noun, instead of a sentence that begins in the middle",
    r"(?i)\bhears? (?:of|about)\b": "receives",
    r"(?i)\btells? (?:of|how|that|why|what)\b": "describes, reports, says",
    r"(?i)\bbells?\b": "notification",
    r"(?i)\bcom(?:e|es|ing) into being\b": "is created",
    r"(?i)\btaken for\b": "mistaken for, treated as",
    r"(?i)\bis no longer so\b|\bis so no longer\b": "the thing that ended",
}
_FENCE = re.compile(r"^( *)(`{3,}).*?\n\1\2 *$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
#: Where a new block of text begins without an empty line: a heading, an item of a list, a row of a table, a quotation.
_BLOCK = re.compile(r"^\s*(?:#|[-*] |\d+\. |\||>|!!!|<)")
_END = re.compile(r"(?<=[.!?…])[*_)\"]*\s+(?=[*_(\"]*[A-Z`\d])|\n\n")


def without(pattern: re.Pattern[str], text: str) -> str:
    """The text with each match replaced by as many empty lines, so that line numbers stay."""
    return pattern.sub(lambda found: "\n" * found[0].count("\n"), text)


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Each paragraph, item and cell with the number of its first line. Headings are left out."""
    lines: list[str] = []
    start = 0
    for number, line in enumerate([*without(_COMMENT, without(_FENCE, text)).split("\n"), ""], 1):
        if lines and (not line.strip() or _BLOCK.match(line)):
            yield start, " ".join(lines)
            lines = []
        if line.lstrip().startswith("|"):
            yield from ((number, cell.strip()) for cell in re.split(r"(?<!\\)\|", line) if cell.strip(" -:"))
        elif line.strip() and not line.lstrip().startswith(("#", "![", "<", "!!!")):
            if not lines:
                start = number
            lines.append(re.sub(r"^\s*(?:[-*] |\d+\. |> ?)", "", line).strip())


def plain(text: str) -> str:
    """The text without marks: code is one word, a link is its text."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]+`", "`code`", text)
    return re.sub(r"\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)", "", text)


def faults(page: str) -> Iterator[str]:
    """What is wrong with a page, each fault with its place and its sentence."""
    text = (PROJECT_ROOT / page).read_text(encoding="utf-8")
    for line, block in blocks(text):
        for sentence in filter(None, map(str.strip, _END.split(plain(block)))):
            count = len(re.findall(r"[\w`][\w`'’.,/:-]*", sentence))
            if count > MOST_WORDS:
                yield f"{page}:{line}: {count} words, at most {MOST_WORDS}: {sentence}"
            for refused, better in REFUSED.items():
                if found := re.search(refused, sentence):
                    yield f"{page}:{line}: {found[0]!r} ({better}): {sentence}"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_in_plain_english(page: str) -> None:
    found = list(faults(page))
    assert not found, "\n" + "\n".join(found)


def test_a_long_sentence_and_a_refused_phrase_are_found_with_their_lines(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Who is there\n\nA short sentence. Who publishes\nis told so.\n\n```\nWho writes code is told nothing.\n```\n\n"
        f"- {'word ' * (MOST_WORDS + 1)}.\n| a cell | Whoever reads it |\n"
    )
    found = [fault.partition(":")[2] for fault in faults(str(page))]
    assert [fault.split(":")[0] for fault in found] == ["3", "3", "10", "11"]


def test_no_source_cites_sections_of_a_document_that_is_not_here() -> None:
    files = subprocess.run(["git", "grep", "-Il", "contract \u00a7"], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert files.stdout.split() == ["tests/docs/test_english.py"]
