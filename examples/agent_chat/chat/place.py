"""The place of the worker in the channel, in a file."""

from __future__ import annotations

import json
from pathlib import Path

import arqonbus


class Place:
    """How far the questions are answered. The file is complete at every moment."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> arqonbus.Position | int:
        """Return the place after the last answered question. At the first start it is the beginning."""
        stored = json.loads(self.file.read_text()) if self.file.exists() else None
        return arqonbus.Position(*stored) if stored else 0

    def write(self, position: arqonbus.Position | None) -> None:
        """Store the place."""
        draft = self.file.with_suffix(".new")
        draft.write_text(json.dumps(position))
        draft.replace(self.file)
