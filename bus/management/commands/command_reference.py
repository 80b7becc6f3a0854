"""``manage.py command_reference``: docs/commands.md, from the registry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...contracts.commands import page


class Command(BaseCommand):
    """Prints, writes or checks the reference of the commands."""

    help = "Print the reference of the commands in Markdown, made from the registry."
    requires_system_checks = []  # noqa: RUF012 - Django's own form

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--output", type=Path, metavar="FILE", help="Write it to FILE instead of printing it.")
        parser.add_argument(
            "--check", type=Path, metavar="FILE", help="Write nothing; exit with 1 when FILE is not up to date."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked for."""
        text = page()
        checked: Path | None = options["check"]
        if checked is not None:
            if not checked.exists() or checked.read_text(encoding="utf-8") != text:
                raise CommandError(f"{checked} is not up to date: manage.py command_reference --output {checked}")
        elif options["output"] is not None:
            options["output"].write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
