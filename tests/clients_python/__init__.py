"""The Python client, its command line, MCP server, pytest plugin and the examples, against real servers."""

from __future__ import annotations
