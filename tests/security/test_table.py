"""docs/security.md names tests; they exist, and every attack of this folder stands there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure


def names_in(path: str) -> set[str]:
    """The names of a file's tests."""
    tree = ast.parse((PROJECT_ROOT / path).read_text())
    found = (node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return {node.name for node in found if node.name.startswith("test_")}


def named() -> set[tuple[str, str]]:
    """(file, test) of each test that the page names."""
    page = (PROJECT_ROOT / "docs" / "security.md").read_text()
    return set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page))


def test_every_test_that_the_page_names_exists() -> None:
    assert len(named()) >= 35
    assert not [f"{path}::{test}" for path, test in sorted(named()) if test not in names_in(path)]


def test_every_row_of_the_attack_table_has_a_test() -> None:
    page = (PROJECT_ROOT / "docs" / "security.md").read_text()
    table = page.partition("| attack |")[2].partition("\n\n")[0]
    rows = [row for row in table.splitlines()[2:] if row.startswith("|")]
    assert len(rows) >= 35
    assert not [row for row in rows if "::test_" not in row]


def test_every_attack_that_is_tried_stands_on_the_page() -> None:
    path = "tests/security/test_attacks.py"
    on_page = {test for file, test in named() if file == path}
    # Not an attack, but the ordinary way beside one.
    assert names_in(path) - on_page == {"test_a_ticket_asked_for_over_rest_opens_one_socket"}
