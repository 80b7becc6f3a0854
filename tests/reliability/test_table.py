"""The table of docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure


def defined_in(path: str) -> set[str]:
    """The tests that a file defines."""
    tree = ast.parse((PROJECT_ROOT / path).read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_promise_of_the_table_has_its_test() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", (PROJECT_ROOT / "docs" / "reliability.md").read_text())
    assert len(named) > 25
    missing = [f"{path}::{name}" for path, name in named if name not in defined_in(path)]
    assert missing == []
