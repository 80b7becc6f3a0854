#!/usr/bin/env python
"""``python websocket_bus.py --host localhost --port 8765 --telemetry-port 8766``: the same as ``manage.py runbus``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the bus with the command line's options."""
    from arqonbus_site.__main__ import run

    run([sys.argv[0], "runbus", *sys.argv[1:]])


if __name__ == "__main__":
    main()
