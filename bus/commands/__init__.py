"""The commands of the protocol (contract §5): a registry, and one module for each family.

A command gets a context and its parameters and returns an answer. It never touches a socket, the hub or the channel layer;
what has to happen behind its answer is said in the answer.
"""

from __future__ import annotations

from . import channels, general, history  # noqa: F401 - importing registers them
from .base import Answer, Command, Context, registry

__all__ = ["Answer", "Command", "Context", "registry"]
