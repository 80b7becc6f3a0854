"""The demo: agents in the science room. They are ordinary clients over the socket, in a second process."""

from __future__ import annotations
