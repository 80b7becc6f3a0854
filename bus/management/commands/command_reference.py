"""``manage.py command_reference``: docs/commands.md, from the registry."""

from __future__ import annotations

from typing import Any

from ...contracts.commands import page
from ..base import DocumentCommand


class Command(DocumentCommand):
    """The reference of the commands."""

    name = "command_reference"
    help = "Print the reference of the commands in Markdown, made from the registry."

    def text(self, **options: Any) -> str:
        """The page."""
        return page()
