"""What the package `arqonbus-server` takes from its surroundings: the ranges of requirements.txt, pages, and the C extension."""

from __future__ import annotations

import subprocess
import sys
import tempfile
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


class WheelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts templates beside the settings, the documentation into its app, and the C extension beside its sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folders; a checkout has them at the top, beside the apps."""
        if (Path(self.root) / "templates").is_dir():
            build_data["force_include"]["templates"] = "arqonbus_site/templates"
        if (Path(self.root) / "docs").is_dir():
            build_data["force_include"]["docs"] = "bus/docs"
        if version == "standard":
            self._compile(build_data)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built for this wheel."""
        if self._folder is not None:
            self._folder.cleanup()

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def _compile(self, build_data: dict[str, Any]) -> None:
        """Add the extension where it can be built. The wheel is then for this Python and this platform, else for all of them."""
        sys.path.insert(0, self.root)
        try:
            from bus import _speed
            from bus._speed import build
        finally:
            sys.path.remove(self.root)
        if not _speed.wanted() or build.missing():
            return
        self._folder = tempfile.TemporaryDirectory(prefix="arqonbus-")
        try:
            made = build.build(Path(self._folder.name))
        except subprocess.CalledProcessError as problem:
            self.app.display_warning(
                f"The wheel has no compiled path, because the compiler refused it:\n{problem.stderr}"
            )
            return
        build_data["force_include"][str(made)] = f"bus/_speed/{made.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
