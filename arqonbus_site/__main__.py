"""``arqonbus-server COMMAND`` and ``python -m arqonbus_site COMMAND``: ``manage.py`` for an installed package."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Run a management command. A wrong setting or a missing database is one line and status 1 (`--traceback` shows all)."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "arqonbus_site.settings")
    from django.conf import settings
    from django.core.management import execute_from_command_line

    from arqonbus_site.refusals import one_line

    with one_line(traceback="--traceback" in arguments):
        # Django's command line continues with unreadable settings, and then does not find the bus's commands.
        settings.INSTALLED_APPS  # noqa: B018 - reads the settings
        execute_from_command_line(list(arguments))


def main() -> None:
    """Run a management command. Without one, list all commands."""
    run(["arqonbus-server", *sys.argv[1:]])


if __name__ == "__main__":
    main()
