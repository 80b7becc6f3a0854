"""The bus for agents over the Model Context Protocol: `POST /mcp`, and the one table of its tools (docs/mcp.md)."""
