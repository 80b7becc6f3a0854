"""``manage.py asyncapi``: print the AsyncAPI document of the sockets."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser

from ...contracts import document
from ...contracts.asyncapi import DEFAULT_HOST
from ..base import DocumentCommand


class Command(DocumentCommand):
    """Print the AsyncAPI document."""

    name = "asyncapi"
    help = (
        "Print the AsyncAPI 3.0 document of the sockets, generated from the code. A running server serves the same document "
        "at /api/asyncapi.json, and as a page at /api/asyncapi/."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument(
            "--host", default=DEFAULT_HOST, help=f"Host of the server in the document ({DEFAULT_HOST})."
        )
        parser.add_argument("--secure", action="store_true", help="Use wss instead of ws in the document.")
        super().add_arguments(parser)

    def text(self, **options: Any) -> str:
        """Return the document as JSON."""
        return json.dumps(document(options["host"], secure=options["secure"]), indent=2, ensure_ascii=False) + "\n"
