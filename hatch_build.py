"""What the package `arqonbus-server` needs, taken from requirements.txt, so that the ranges stand in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RequirementsHook(MetadataHookInterface):
    """Fills `project.dependencies`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the lines of requirements.txt without its comments."""
        lines = (Path(self.root) / "requirements.txt").read_text().splitlines()
        metadata["dependencies"] = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
