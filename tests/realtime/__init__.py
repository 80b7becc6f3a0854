"""Tests of the hub, of frames, and of what all readers and writers share: without a socket, without a server."""

from __future__ import annotations
