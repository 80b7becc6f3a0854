"""The commands of ``arqonbus``: small coroutines over :func:`arqonbus.connect`, one module for each task."""

from __future__ import annotations
