"""The agent frameworks of requirements-agents.lock, which `make` installs into a folder of their own."""

from __future__ import annotations

import sys
from pathlib import Path

#: Only tests that ask for the frameworks see them.
FOLDER = Path(sys.prefix, "agents")


def reach() -> None:
    """Let this process import the frameworks. The folder has no package that the environment has, too."""
    assert FOLDER.is_dir(), "`make test` installs the frameworks: requirements-agents.lock"
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
