"""How frames get onto a socket: one module per ASGI server, and a portable one.

``choose`` picks the best writer for the server that runs a connection. A module that touches a server's internals says so
at its head, checks them before it uses them, and stands aside for the portable writer when they are not as expected.
"""

from __future__ import annotations

from .auto import choose
from .base import Bounds, Writer

__all__ = ["Bounds", "Writer", "choose"]
