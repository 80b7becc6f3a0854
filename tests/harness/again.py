"""Run the failed tests of CI twice more, alone: ``python -m tests.harness.again --backend=…``.

Some six thousand tests share two cores with real servers, databases and browsers. A test that fails among the others and
passes twice by itself is unsteady: it is named at the end, and it is a fault of the test or of the product to be mended next.
It stops no landing. A test that fails again does. Outside CI nothing runs again: who wrote the change looks first.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.harness.plugin import in_ci

#: More failures than this are no accident, so nothing runs again.
MOST = 6
TIMES = 2
LAST_FAILED = Path("var/pytest_cache/v/cache/lastfailed")


def main(arguments: list[str]) -> int:
    """Run the last failed tests again with the options ``arguments``. Returns 0 where all of them pass each time, else 1."""
    if not in_ci() or not LAST_FAILED.exists():
        return 1
    failed = sorted(json.loads(LAST_FAILED.read_text()))
    if not 0 < len(failed) <= MOST:
        print(f"{len(failed)} tests failed: nothing runs again.", flush=True)
        return 1
    for _ in range(TIMES):
        if subprocess.run([sys.executable, "-m", "pytest", *arguments, *failed], check=False).returncode:
            return 1
    for name in failed:
        print(
            f"unsteady: {name} failed among the others and passed {TIMES} times alone. It has to be mended.", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
