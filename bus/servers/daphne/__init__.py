"""Daphne: Autobahn's WebSockets on Twisted's asyncio reactor."""

from ..adapter import Adapter
from . import handshakes, reader, serve, writer

ADAPTER = Adapter("daphne", ("daphne", "autobahn", "twisted"), reader, writer, handshakes, serve)
