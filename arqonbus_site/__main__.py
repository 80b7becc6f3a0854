"""``arqonbus-server COMMAND`` and ``python -m arqonbus_site COMMAND``: ``manage.py`` for who installed the package."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a management command; without one, list them."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "arqonbus_site.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(["arqonbus-server", *sys.argv[1:]])


if __name__ == "__main__":
    main()
