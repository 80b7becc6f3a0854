"""The server's version."""

VERSION = "1.0.0"
PROTOCOL = "1.0"
