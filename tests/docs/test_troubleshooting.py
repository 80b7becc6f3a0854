"""The page for those whom something refuses has an advice for every code there is."""

from __future__ import annotations

import re

import pytest

from bus.protocol.errors import CLOSE_CODES, ERRORS
from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure

PAGE = (PROJECT_ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> str:
    """The first column of the table below a heading."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))


def test_every_error_code_has_its_advice_and_no_other_is_named() -> None:
    assert set(re.findall(r"`([A-Z_]+)`", first_cells("Error codes"))) == set(ERRORS)


def test_every_close_code_of_the_bus_has_its_advice() -> None:
    assert {int(code) for code in re.findall(r"\b4\d{3}\b", first_cells("Close codes"))} == set(CLOSE_CODES)
