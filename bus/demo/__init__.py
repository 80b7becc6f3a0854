"""The demo: agents that walk through the science room, as ordinary clients over the socket, in a process of their own."""

from __future__ import annotations
