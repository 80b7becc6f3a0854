"""``manage.py asyncapi``: the contract of the sockets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...contracts import document
from ...contracts.asyncapi import DEFAULT_HOST


class Command(BaseCommand):
    """Prints, writes or checks the AsyncAPI document."""

    help = (
        "Print the AsyncAPI 3.0 document of the sockets, made from the code. A running server shows the same at "
        "/api/asyncapi.json, and for people at /api/asyncapi/."
    )
    requires_system_checks = []  # noqa: RUF012 - Django's own form

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--host", default=DEFAULT_HOST, help=f"Where the server is said to be ({DEFAULT_HOST}).")
        parser.add_argument("--secure", action="store_true", help="Say wss instead of ws.")
        parser.add_argument("--output", type=Path, metavar="FILE", help="Write it to FILE instead of printing it.")
        parser.add_argument(
            "--check", type=Path, metavar="FILE", help="Write nothing; exit with 1 when FILE is not up to date."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked for."""
        text = json.dumps(document(options["host"], secure=options["secure"]), indent=2, ensure_ascii=False) + "\n"
        checked: Path | None = options["check"]
        if checked is not None:
            if not checked.exists() or checked.read_text(encoding="utf-8") != text:
                raise CommandError(f"{checked} is not up to date: manage.py asyncapi --output {checked}")
        elif options["output"] is not None:
            options["output"].write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
