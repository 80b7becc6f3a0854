"""The AsyncAPI document of the sockets."""

from __future__ import annotations
