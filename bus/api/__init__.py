"""The bus over HTTP: operations, and REST for rooms, channels, messages, clients and tokens (contract §1, §9)."""
