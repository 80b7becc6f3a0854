"""The pytest plugin: what runs with which back end, and that CI accepts no skips."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.plugin import in_ci
from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure

RunSuite = Callable[..., "subprocess.CompletedProcess[str]"]

_SUITE = """
import pytest

def test_always(): pass

@pytest.mark.pure
def test_pure(): pass

@pytest.mark.embedded
def test_sqlite(): pass

@pytest.mark.cluster
def test_cluster(): pass

@pytest.mark.chaos
def test_chaos(): pass

@pytest.mark.needs("no-such-program")
def test_optional(): pass
"""

#: These take longer to load than the little suite to run.
_PLUGINS_OF_OTHERS = ("-p", "no:schemathesis", "-p", "no:hypothesispytest")


@pytest.fixture
def run_suite(tmp_path: Path) -> RunSuite:
    """Runs pytest with this project's configuration on a little suite in a folder of its own."""

    def run(source: str, *options: str, ci: str = "") -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_little.py").write_text(source)
        return subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-c", PROJECT_ROOT / "pyproject.toml"),
                *("--rootdir", tmp_path, "-o", f"cache_dir={tmp_path}", "-v"),
                *_PLUGINS_OF_OTHERS,
                *options,
                tmp_path / "test_little.py",
            ],
            cwd=PROJECT_ROOT,
            env={**os.environ, "CI": ci},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


def _ran(output: str) -> set[str]:
    return {line.split("::")[1].split()[0] for line in output.splitlines() if " PASSED" in line}


def test_embedded_runs_all_but_what_needs_a_cluster(run_suite: RunSuite) -> None:
    """On SQLite everything runs that does not ask for a cluster, an on-demand target or an absent program."""
    result = run_suite(_SUITE)
    assert result.returncode == 0, result.stdout
    assert _ran(result.stdout) == {"test_always", "test_pure", "test_sqlite"}
    assert "1 tests not run here: no no-such-program" in result.stdout


def test_several_at_once_tell_the_same(run_suite: RunSuite) -> None:
    """As `make test` runs them: what was left out is told, and a skip fails in CI."""
    result = run_suite(_SUITE + "\ndef test_skipped(): pytest.skip('no reason')\n", "-n", "2", ci="true")
    assert "3 passed, 1 skipped" in result.stdout
    assert "1 tests not run here: no no-such-program" in result.stdout
    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    assert "test_little.py::test_skipped" in result.stdout.split("skipped tests fail in CI")[1]


def test_chaos_runs_only_when_asked_for(run_suite: RunSuite) -> None:
    """`-m chaos` is what `make chaos` says."""
    result = run_suite(_SUITE, "-m", "chaos")
    assert _ran(result.stdout) == {"test_chaos"}


@pytest.mark.parametrize(("said", "meant"), [("true", True), ("1", True), ("false", False), ("0", False), ("", False)])
def test_ci_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, said: str, meant: bool) -> None:
    monkeypatch.setenv("CI", said)
    assert in_ci() is meant


def test_a_skip_fails_the_session_in_ci(run_suite: RunSuite) -> None:
    """With CI set a skipped test makes the exit code non-zero and is named."""
    result = run_suite("import pytest\ndef test_skipped(): pytest.skip('no reason')\n", ci="1")
    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    assert "skipped tests fail in CI" in result.stdout
    assert "test_little.py::test_skipped" in result.stdout.split("skipped tests fail in CI")[1]


def test_a_skipped_module_fails_the_session_in_ci(run_suite: RunSuite) -> None:
    """A module that skips itself, as importorskip does, counts as well."""
    result = run_suite("import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass\n", ci="true")
    assert result.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.INTERNAL_ERROR)


def test_a_skip_is_no_failure_at_home(run_suite: RunSuite) -> None:
    """Without CI a skip is only reported; an expected failure never counts as a skip."""
    suite = (
        "import pytest\n"
        "def test_skipped(): pytest.skip('no reason')\n"
        "@pytest.mark.xfail\n"
        "def test_expected(): assert 0\n"
    )
    assert run_suite(suite).returncode == 0
    assert run_suite(suite, "--deselect", "test_little.py::test_skipped", ci="true").returncode == 0


def _shared_fixtures(path: Path) -> list[str]:
    """The names of a module's fixtures that live longer than one test."""
    functions = (
        each for each in ast.parse(path.read_text()).body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    marks = {each.name: " ".join(map(ast.unparse, each.decorator_list)) for each in functions}
    return [name for name, mark in marks.items() if "fixture" in mark and re.search(r"\bscope=(?!'function')", mark)]


def test_no_module_imports_a_fixture_that_several_tests_share() -> None:
    """Pytest would make it once more for that module, such as a user of one name on the session's server."""
    paths = {
        ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts): path
        for path in (PROJECT_ROOT / "tests").rglob("*.py")
    }
    shared = {module: names for module, path in paths.items() if (names := _shared_fixtures(path))}
    assert "superuser" in shared["tests.conftest"]
    found = []
    for module, path in paths.items():
        for each in ast.walk(ast.parse(path.read_text())):
            if isinstance(each, ast.ImportFrom):
                start = ".".join([*module.split(".")[: -each.level], each.module or ""]) if each.level else each.module
                found += [f"{module}: {name.name}" for name in each.names if name.name in shared.get(start or "", ())]
    assert found == []
