"""One node per process and event loop: it owns the hub, the log writer, the listener for notifications and the heartbeat."""

from __future__ import annotations

from .client import ClientState
from .node import Node, current, running
from .upkeep.garbage import freeze_loaded

__all__ = ["ClientState", "Node", "current", "freeze_loaded", "running"]
