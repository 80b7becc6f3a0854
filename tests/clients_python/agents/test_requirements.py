"""The frameworks' lock file, and the extra of the client."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure


def locked(name: str) -> set[str]:
    """The packages of a lock file."""
    return set(re.findall(r"(?m)^([a-z0-9][a-z0-9.-]*)(?:\[[^\]]*\])?==", (PROJECT_ROOT / name).read_text()))


def test_the_folder_of_the_frameworks_has_no_package_that_the_environment_has() -> None:
    """Otherwise a process that sees both would have one of two versions."""
    frameworks = locked("requirements-agents.lock")
    assert {"pydantic-ai-slim", "langgraph", "openai-agents"} <= frameworks
    assert not frameworks & locked("requirements-dev.lock")


def test_the_extra_names_what_is_tested() -> None:
    project = tomllib.loads((PROJECT_ROOT / "clients" / "python" / "pyproject.toml").read_text())
    lines = (PROJECT_ROOT / "requirements-agents.txt").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert project["project"]["optional-dependencies"]["agents"] == wanted
