"""The modules of the console that need no page, each by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.pure, pytest.mark.needs("node")]

FILES = sorted((Path(__file__).parent / "modules").glob("*.test.mjs"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_a_module_does_what_its_tests_say(file: Path) -> None:
    done = subprocess.run(["node", "--test", str(file)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
