"""`arqonbus.js` is built from the modules beside it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.processes import PROJECT_ROOT

pytestmark = [pytest.mark.pure]

CLIENT = PROJECT_ROOT / "clients" / "javascript"


def build(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the build of a client's folder; its exit code and what it said."""
    command = [sys.executable, str(folder / "build.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr.strip()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A client's folder of one's own."""
    return Path(shutil.copytree(CLIENT, tmp_path / "javascript", ignore=shutil.ignore_patterns("node_modules")))


def test_the_file_that_people_load_is_up_to_date() -> None:
    assert build(CLIENT, "--check") == (0, "")


def test_a_changed_module_makes_it_out_of_date_until_it_is_built(copy: Path) -> None:
    timing = copy / "src" / "timing.js"
    timing.write_text(timing.read_text() + "\nexport const changed = 1;\n")
    code, said = build(copy, "--check")
    assert (code, "make client" in said) == (1, True)
    assert build(copy) == (0, "")
    assert "\nconst changed = 1;\n" in (copy / "arqonbus.js").read_text()
    assert build(copy, "--check") == (0, "")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('import { Bus } from "./bus.js";\n', "circle"),
        ("export const splitAddress = 1;\n", "Two modules declare splitAddress."),
        ("export default 1;\n", "timing.js has an import or export of a form that the build does not know"),
    ],
)
def test_modules_that_cannot_be_joined_are_refused(copy: Path, line: str, why: str) -> None:
    timing = copy / "src" / "timing.js"
    timing.write_text(timing.read_text() + line)
    code, said = build(copy)
    assert code == 1
    assert why in said


def test_a_module_that_nothing_imports_is_refused(copy: Path) -> None:
    (copy / "src" / "forgotten.js").write_text("export const forgotten = 1;\n")
    assert build(copy) == (1, "clients/javascript: Nothing imports forgotten.js.")


def test_comments_stay_in_the_modules_and_no_module_is_left_to_load() -> None:
    text = (CLIENT / "arqonbus.js").read_text()
    assert "@param" not in text
    assert "import {" not in text.partition("*/")[2]
