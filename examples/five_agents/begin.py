#!/usr/bin/env python
"""Make the repository and the work channel of five agents, and publish the tasks: one for each file."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import arqonbus


def make_repository(path: Path) -> None:
    """Make a bare repository with one commit."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        for command in (
            ["clone", "-q", str(path), "."],
            ["checkout", "-q", "-B", "main"],
            [
                "-c",
                "user.name=begin",
                "-c",
                "user.email=begin@localhost",
                "commit",
                "-q",
                "--allow-empty",
                "-m",
                "Begin",
            ],
            ["push", "-q", "origin", "main"],
        ):
            subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)


async def main() -> None:
    """Make everything that the agents need."""
    parser = argparse.ArgumentParser(description="Make a repository, a work channel, and tasks for five agents.")
    parser.add_argument("--url", default=os.environ.get("ARQONBUS_URL", "ws://localhost:8765/"))
    parser.add_argument("--token", default=os.environ.get("ARQONBUS_TOKEN"), help="access token of an admin")
    parser.add_argument("--repository", type=Path, required=True, help="folder of the new bare repository")
    parser.add_argument("--room", default="repo", help="room of the channels `tasks` and `talk`")
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument(
        "--lease", type=float, default=60.0, help="seconds after which a task of a dead agent is out again"
    )
    chosen = parser.parse_args()
    make_repository(chosen.repository)
    async with arqonbus.connect(chosen.url, token=chosen.token) as bus:
        await bus.create_channel(f"{chosen.room}:tasks", work={"lease": chosen.lease, "attempts": 10})
        for number in range(1, chosen.tasks + 1):
            task = {"file": f"chapter-{number}.txt", "wish": f"Write chapter {number}."}
            # The id makes a repeated start publish nothing twice.
            await bus.publish(f"{chosen.room}:tasks", f"Write {task['file']}", payload=task, id=f"task-{number}")
    print(f"{chosen.tasks} tasks wait in {chosen.room}:tasks.")


if __name__ == "__main__":
    asyncio.run(main())
