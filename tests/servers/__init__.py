"""Starting and stopping servers."""

from __future__ import annotations
