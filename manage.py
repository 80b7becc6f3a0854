#!/usr/bin/env python
"""Django's command line for ArqonBus."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a management command."""
    from arqonbus_site.__main__ import run

    run(sys.argv)


if __name__ == "__main__":
    main()
