"""``manage.py command_reference``: print docs/commands.md from the registry of commands."""

from __future__ import annotations

from typing import Any

from ...contracts.commands import page
from ..base import DocumentCommand


class Command(DocumentCommand):
    """Print the reference of the bus's commands."""

    name = "command_reference"
    help = "Print the reference of the bus's commands in Markdown, generated from the code."

    def text(self, **options: Any) -> str:
        """Return the page as Markdown."""
        return page()
