"""The bus over HTTP: operations, and REST for rooms, channels, messages, clients and tokens (docs/rest.md)."""
