"""``arqonbus`` and ``python -m arqonbus``: the command line. It needs the extra ``[cli]``."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command line, or say how to install it."""
    _require("The command line", "typer", "rich")
    from .cli import run

    run()


def mcp() -> None:
    """Run the MCP server (the command ``arqonbus-mcp``), or say how to install it."""
    _require("The MCP server", "mcp")
    from .mcp_server import main as serve

    serve()


def _require(what: str, *packages: str) -> None:
    """End the process with one line if one of the ``packages`` is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"{what} needs more packages: pip install {' '.join(missing)}")


if __name__ == "__main__":
    main()
