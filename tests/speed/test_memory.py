"""The extension keeps no reference too many, drops none too many, and never leaves its memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bus import _speed
from tests.harness.processes import PROJECT_ROOT

pytestmark = [pytest.mark.pure, pytest.mark.skipif(_speed.core is None, reason="the extension was not built")]

_COUNT = ("-m", "tests.speed.references")


def run(*command: str, cwd: Path = PROJECT_ROOT, **env: str) -> str:
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(cwd), **env}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The checkout without what was built, for an extension of another kind."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, names.split("\0")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT_ROOT / name, tmp_path / name)
    return tmp_path


def test_no_call_keeps_a_block_of_memory() -> None:
    assert run(sys.executable, *_COUNT) == "counts blocks\n"


@pytest.mark.chaos
@pytest.mark.needs("python3-dbg")
def test_no_call_keeps_a_reference(copy: Path) -> None:
    run("python3-dbg", "-m", "bus._speed.build", "--required", cwd=copy)
    assert run("python3-dbg", *_COUNT, cwd=copy) == "counts references\n"


@pytest.mark.chaos
@pytest.mark.needs("gcc")
@pytest.mark.timeout(1000)
def test_both_paths_are_compared_with_sanitizers(copy: Path) -> None:
    run(sys.executable, "-m", "bus._speed.build", "--required", "--sanitize", cwd=copy)
    library = run("gcc", "-print-file-name=libasan.so").strip()
    said = run(
        sys.executable, "-m", "pytest", "--backend=embedded", "-q", "tests/speed", "tests/protocol",
        # These start a Python of their own, which knows no sanitizer.
        "--ignore=tests/speed/test_path.py", "--ignore=tests/speed/test_memory.py",
        # Python's own allocator would hide a byte too many, and Python itself does not free all at its end.
        cwd=copy, LD_PRELOAD=str(Path(library).resolve()), ASAN_OPTIONS="detect_leaks=0", PYTHONMALLOC="malloc",
    )  # fmt: skip
    assert " passed" in said
    assert "skipped" not in said
