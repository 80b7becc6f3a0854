"""docs/operations.md explains every metric and every event of the log that the code has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

PAGE = (PROJECT_ROOT / "docs" / "operations.md").read_text()
#: What the first cells of the page's tables explain.
EXPLAINED = {
    name for row in re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE) for name in re.findall(r"`([a-z_]+)`", row)
}
#: Methods of a connection that name an event in their first argument.
_FIELDS = ("fields", "full_fields")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def _logged(path: Path) -> Iterator[tuple[int, set[str]]]:
    """The log calls of a module: their line and the names of events in them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "event" and isinstance(value, ast.Constant):
                    yield node.lineno, {str(value.value)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _FIELDS:
            yield node.lineno, {str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reported":
            named = [keyword.value for keyword in node.keywords if keyword.arg == "event"]
            yield node.lineno, {str(value.value) for value in named if isinstance(value, ast.Constant)}


def _modules_that_log() -> list[Path]:
    found = [path for name in ("bus", "telemetry", "arqonbus_site") for path in (PROJECT_ROOT / name).rglob("*.py")]
    return [path for path in found if re.search(r"\blogger\.\w+\(|\breported\(|(?:full_)?fields\(", path.read_text())]


@pytest.mark.pure
def test_every_event_of_the_log_is_explained_and_none_that_there_is_not() -> None:
    events = {event for path in _modules_that_log() for _, names in _logged(path) for event in names}
    assert {"stats", "closed", "store_lost", "audit"} <= events
    assert events - EXPLAINED == set()
    section = PAGE[PAGE.index("## Log lines") : PAGE.index("## Backup")]
    named = {
        n for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE) for n in re.findall(r"`([a-z_]+)`", row)
    }
    assert named - events == set()


@pytest.mark.pure
def test_every_line_above_debug_has_the_name_of_an_event() -> None:
    nameless = [
        f"{path.relative_to(PROJECT_ROOT)}:{node.lineno}"
        for path in _modules_that_log()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LEVELS - {"debug"}
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logger"
        and "extra" not in {keyword.arg for keyword in node.keywords}
    ]
    assert nameless == []


def test_every_metric_is_explained_and_none_that_there_is_not(shared_server: BusServer) -> None:
    text = shared_server.get("/metrics")[1].decode()
    metrics = {family.name for family in text_string_to_metric_families(text)}
    assert "arqonbus_publish_seconds" in metrics
    assert metrics - EXPLAINED == set()
    assert {name for name in EXPLAINED if name.startswith("arqonbus_")} - metrics == set()


@pytest.mark.pure
def test_every_variable_and_file_that_the_page_names_is_there() -> None:
    known = set(re.findall(r"^\| `(\w+)` \|", (PROJECT_ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bARQONBUS_[A-Z_]+\b", PAGE)) <= known
    section = PAGE[PAGE.index("## The files in `deploy/`") : PAGE.index("### Daphne behind nginx")]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    deploy = PROJECT_ROOT / "deploy"
    there = {str(path.relative_to(deploy)) for path in deploy.rglob("*") if path.is_file()}
    assert named == there - {"systemd/arqonbus.env.example"}
