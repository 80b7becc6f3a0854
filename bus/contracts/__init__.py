"""The AsyncAPI 3 document of the sockets, generated from the code that validates and builds the frames.

Commands, their parameters, permissions and errors come from the registry (``bus.commands``), the tables of errors and close
codes from ``bus.protocol.errors``, limits from ``bus.conf.settings``. The shapes of frames are the structs of ``frames``;
tests hold them against the normaliser's verdicts and against every frame of a real session.
"""

from __future__ import annotations

from .asyncapi import Message, Socket, document, register

__all__ = ["Message", "Socket", "document", "register"]
