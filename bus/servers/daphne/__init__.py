"""Daphne: Autobahn's WebSockets on Twisted's asyncio reactor."""

from ..adapter import Adapter
from . import reader, serve, writer

ADAPTER = Adapter("daphne", ("daphne", "autobahn", "twisted"), reader, writer, serve)
