"""The commands of the protocol (docs/protocol.md, Commands): a registry, and one module for each family.

A command gets a context and its parameters, and returns an answer. It never touches a socket, the hub or the channel layer.
The answer names the work that the connection does after sending it.
"""

from __future__ import annotations

from . import channels, clients, decisions, erasing, following, general, history, marks, streams, work  # noqa: F401 - importing registers them
from .base import Answer, Command, Context, registry

__all__ = ["Answer", "Command", "Context", "registry"]
