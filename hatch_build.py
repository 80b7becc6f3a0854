"""What the package `arqonbus-server` takes from its surroundings: the ranges of requirements.txt, and the pages in templates/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class RequirementsHook(MetadataHookInterface):
    """Fills `project.dependencies`, so that the ranges stand in one place."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the lines of requirements.txt without its comments."""
        lines = (Path(self.root) / "requirements.txt").read_text().splitlines()
        metadata["dependencies"] = [line for line in map(str.strip, lines) if line and not line.startswith("#")]


class PagesHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the ready project's templates beside its settings, and the documentation into the app that shows it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folder; a checkout has it at the top, beside the apps."""
        if (Path(self.root) / "templates").is_dir():
            build_data["force_include"]["templates"] = "arqonbus_site/templates"
        if (Path(self.root) / "docs").is_dir():
            build_data["force_include"]["docs"] = "bus/docs"
