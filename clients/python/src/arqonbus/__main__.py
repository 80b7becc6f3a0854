"""``arqonbus`` and ``python -m arqonbus``: the command line, which needs the extra ``[cli]``."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command line, or say how to install it."""
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"The command line needs more than the client: pip install {' '.join(missing)}")
    from .cli import run

    run()


if __name__ == "__main__":
    main()
