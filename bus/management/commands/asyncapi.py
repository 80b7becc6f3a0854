"""``manage.py asyncapi``: the contract of the sockets."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser

from ...contracts import document
from ...contracts.asyncapi import DEFAULT_HOST
from ..base import DocumentCommand


class Command(DocumentCommand):
    """The AsyncAPI document."""

    name = "asyncapi"
    help = (
        "Print the AsyncAPI 3.0 document of the sockets, made from the code. A running server shows the same at "
        "/api/asyncapi.json, and for people at /api/asyncapi/."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--host", default=DEFAULT_HOST, help=f"Where the server is said to be ({DEFAULT_HOST}).")
        parser.add_argument("--secure", action="store_true", help="Say wss instead of ws.")
        super().add_arguments(parser)

    def text(self, **options: Any) -> str:
        """The document as JSON."""
        return json.dumps(document(options["host"], secure=options["secure"]), indent=2, ensure_ascii=False) + "\n"
