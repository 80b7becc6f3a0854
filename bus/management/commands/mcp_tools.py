"""``manage.py mcp_tools``: print the table of MCP tools, which the Python client has as a file."""

from __future__ import annotations

import json
from typing import Any

from ...mcp.tools import document
from ..base import DocumentCommand


class Command(DocumentCommand):
    """Print the table of the MCP tools."""

    name = "mcp_tools"
    help = "Print the MCP tools as JSON, for clients/python/src/arqonbus/mcp_tools.json."

    def text(self, **options: Any) -> str:
        """Return the table as JSON."""
        return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
