"""The code of docs/clients-javascript.md runs in node as it stands there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

from .conftest import node_flags

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]

PAGE = PROJECT_ROOT / "docs" / "clients-javascript.md"
# Those of a page that needs a second site are marked `<!-- not run: … -->`; test_other_origin.py does what they show.
BLOCKS = re.findall(r"(?<!-->\n)^```js\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_runs_to_its_end(number: int, shared_server: BusServer, tmp_path: Path) -> None:
    (tmp_path / "arqonbus.js").symlink_to(PROJECT_ROOT / "clients" / "javascript" / "arqonbus.js")
    file = tmp_path / "block.mjs"
    file.write_text(BLOCKS[number].replace("localhost:8765", f"{shared_server.host}:{shared_server.port}"))
    command = ["node", *node_flags(), "--preserve-symlinks", str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
