"""Uvicorn: WebSockets of the package ``websockets`` on asyncio or uvloop."""

from ..adapter import Adapter
from . import reader, serve, writer

ADAPTER = Adapter("uvicorn", ("uvicorn", "websockets"), reader, writer, serve)
