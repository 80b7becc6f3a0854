"""The project's pytest plugin: the choice of the back end, optional tests, and no silent skips in CI.

It is loaded with `-p` (pyproject.toml) and not as a conftest, because the back end has to stand before
pytest-django reads the settings.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from typing import Any

import pytest

from tests.harness.backends import BACKENDS, Backends

_BACKENDS = pytest.StashKey[Backends]()
_SKIPPED = pytest.StashKey[list[str]]()
_NOT_HERE = pytest.StashKey[dict[str, int]]()

# How many run at once with `-n auto`: a test waits for a server half of the time or more, and a machine has only so much memory.
_JOBS_PER_CORE, _MOST_JOBS = 2, 8

# The marker of tests that have a make target of their own.
_ON_DEMAND = ("chaos",)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--backend`, by default from ARQONBUS_TEST_BACKEND, else embedded."""
    parser.getgroup("arqonbus").addoption(
        "--backend",
        choices=BACKENDS,
        default=os.environ.get("ARQONBUS_TEST_BACKEND") or "embedded",
        help="embedded: SQLite and the in-memory layer; cluster: real PostgreSQL and Redis "
        "(default: ARQONBUS_TEST_BACKEND, else embedded)",
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Start the back end and point the environment to it, before pytest-django reads the settings."""
    options = early_config.known_args_namespace
    backends = Backends(options.backend)
    early_config.stash[_BACKENDS] = backends
    early_config.stash[_SKIPPED] = []
    early_config.stash[_NOT_HERE] = {}
    early_config.add_cleanup(backends.close)
    if not (options.help or options.version):
        backends.prepare_process()
    return (yield)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` means here."""
    return min(_JOBS_PER_CORE * (os.cpu_count() or 1), _MOST_JOBS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of pytest-xdist has ended: it alone knows which tests it left out."""
    node.config.stash[_NOT_HERE].update(getattr(node, "workeroutput", {}).get("not_here", {}))


def pytest_report_header(config: pytest.Config) -> str:
    """Name the back end at the head of the output."""
    return f"backend: {config.stash[_BACKENDS].name}"


@pytest.fixture(scope="session")
def backends(pytestconfig: pytest.Config) -> Backends:
    """The session's Redis, PostgreSQL and database templates."""
    return pytestconfig.stash[_BACKENDS]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what belongs to the other back end, to another make target, or needs an optional program."""
    backend = config.stash[_BACKENDS].name
    not_here = config.stash[_NOT_HERE]
    asked_for = config.getoption("markexpr")
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        programs = [program for mark in item.iter_markers("needs") for program in mark.args]
        missing = [program for program in programs if shutil.which(program) is None]
        if backend == "embedded":
            wanted = "cluster" not in marks
        else:
            wanted = not marks & {"pure", "embedded"}
        if any(name in marks and name not in asked_for for name in _ON_DEMAND):
            wanted = False
        if wanted and missing:
            not_here[", ".join(missing)] = not_here.get(", ".join(missing), 0) + 1
            wanted = False
        (kept if wanted else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


class _SkipCounter:
    """Remembers every skipped test and module."""

    def __init__(self, skipped: list[str]) -> None:
        self._skipped = skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that was skipped; an expected failure (xfail) is none."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that was skipped as a whole."""
        if report.skipped:
            self._skipped.append(report.nodeid)


def pytest_configure(config: pytest.Config) -> None:
    """Count the skips."""
    config.pluginmanager.register(_SkipCounter(config.stash[_SKIPPED]), "arqonbus-skips")


def in_ci() -> bool:
    """Whether the environment says that this is CI."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test fails the session: what was not run was not shown."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["not_here"] = session.config.stash[_NOT_HERE]
    if in_ci() and session.config.stash[_SKIPPED] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which tests were not run, and why."""
    for programs, count in sorted(config.stash[_NOT_HERE].items()):
        terminalreporter.write_line(f"{count} tests not run here: no {programs}", yellow=True)
    skipped = config.stash[_SKIPPED]
    if in_ci() and skipped:
        terminalreporter.section("skipped tests fail in CI", red=True)
        for nodeid in skipped:
            terminalreporter.write_line(nodeid, red=True)
