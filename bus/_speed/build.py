"""Build the extension beside its sources: ``python -m bus._speed.build``. Without a compiler it says so, and nothing fails.

The compiler and its flags are those with which this Python was built (``sysconfig``).
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from .sources import HERE, digest, sources

_FLAGS = ["-std=c11", "-O3", "-fvisibility=hidden", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-unused-parameter"]
_SANITIZERS = [
    "-g",
    "-O1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
]


def target(folder: Path = HERE) -> Path:
    """Return the file that this Python imports as the extension."""
    return folder / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"


def missing() -> str:
    """Return what this machine lacks for the build; empty where it lacks nothing."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this Python has no global interpreter lock"
    if os.name != "posix":
        return "it is built on POSIX systems only"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None and shutil.which("cc") is None:
        return "there is no C compiler"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "the headers of this Python are missing"
    return ""


def build(folder: Path = HERE, *, sanitize: bool = False) -> Path:
    """Build the extension into ``folder``, and return its file. Raises ``CalledProcessError`` with the compiler's words."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        compiler = ["cc"]
    linker = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    made = target(folder)
    # Another process may import the old file at this moment, so the new one replaces it whole.
    fresh = made.with_suffix(f".{os.getpid()}.new")
    command = [
        *compiler, *linker, "-fPIC", *_FLAGS, *(_SANITIZERS if sanitize else ()), f'-DSOURCES="{digest()}"',
        f"-I{sysconfig.get_path('include')}", f"-I{HERE}", *map(str, sources()), "-o", str(fresh),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - nothing of it comes from outside
        fresh.replace(made)
    finally:
        fresh.unlink(missing_ok=True)
    return made


def main() -> int:
    """Build, and say in one line which path will run. Returns the exit code: 0 also where nothing can be built."""
    parser = argparse.ArgumentParser(prog="python -m bus._speed.build", description=__doc__)
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan, for tests")
    parser.add_argument("--required", action="store_true", help="fail where the extension cannot be built")
    options = parser.parse_args()
    lacks = missing()
    if not lacks:
        try:
            build(sanitize=options.sanitize)
        except subprocess.CalledProcessError as problem:
            sys.stderr.write(problem.stderr)
            lacks = "the compiler refused it"
    if lacks:
        print(f"Compiled path: not built, because {lacks}. The bus works without it.")
        return 1 if options.required else 0
    print("Compiled path: built.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
