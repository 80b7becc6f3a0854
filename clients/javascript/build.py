"""Build the one-file JavaScript client, `arqonbus.js`, from the modules in `src/`. Needs no node.

The modules only use named imports and exports, so the bundle is their code in the order of their imports. Comments stay
in the modules. Usage: `python clients/javascript/build.py [--check]`; `--check` writes nothing and fails if the file is
out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"
TARGET = HERE / "arqonbus.js"

NOTICE = "\n *\n * This file is built from the modules in clients/javascript/src (`make client`). Change those.\n */\n"

#: `import { a, b } from "./c.js";`, also over several lines, and the same with `export`.
FROM = re.compile(r'^(import|export) \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.M)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const)\b)", re.M)
DECLARED = re.compile(r"^(?:async )?(?:function\*?|class|const|let) (\w+)", re.M)
#: Comments that have lines of their own, and the casts for the type checker.
COMMENTS = re.compile(r"^ */\*\*(?:(?!\*/).)*\*/\n|^ *//[^\n]*\n|/\*\* @type (?:(?!\*/).)*\*/ ", re.M | re.S)


class BuildError(Exception):
    """Raised for modules that cannot be joined into one file."""


def _ordered(name: str, done: dict[str, str], path: tuple[str, ...] = ()) -> dict[str, str]:
    """Add the module `name` to `done` behind everything that it imports, as names and texts."""
    if name in path:
        raise BuildError(f"The modules import one another in a circle: {' -> '.join((*path, name))}")
    if name not in done:
        text = (SOURCES / name).read_text(encoding="utf-8")
        for found in FROM.finditer(text):
            _ordered(found[3], done, (*path, name))
        done[name] = text
    return done


def build() -> str:
    """Return the text of the bundle. Raises BuildError."""
    modules = _ordered("index.js", {})
    unused = {path.name for path in SOURCES.glob("*.js")} - modules.keys()
    if unused:
        raise BuildError(f"Nothing imports {', '.join(sorted(unused))}.")
    index = modules["index.js"]
    header = index[: index.index("\n */\n")] + NOTICE
    public = [name for found in FROM.finditer(index) if found[1] == "export" for name in found[2].split(",")]
    public += re.findall(r"^export const (\w+)", index, re.M)
    code = "\n".join(_code(name, text) for name, text in modules.items())
    names = DECLARED.findall(code)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BuildError(f"Two modules declare {', '.join(sorted(twice))}.")
    exports = ",\n  ".join(sorted(filter(None, map(str.strip, public))))
    return f"{header}\n{code}\nexport {{\n  {exports},\n}};\n"


def _code(name: str, text: str) -> str:
    """Return a module's text without imports, exports and comments, below a line that names it."""
    code = COMMENTS.sub("", EXPORT.sub("", FROM.sub("", text)))
    left = re.search(r"^(?:import|export)\b.*", code, re.M)
    if left:
        raise BuildError(f"{name} has an import or export of a form that the build does not know: {left[0]}")
    return f"// --- {name} ---\n\n" + re.sub(r"\n{3,}", "\n\n", code).strip("\n") + "\n"


def main(arguments: list[str]) -> int:
    """Run the command line; return its exit code."""
    try:
        text = build()
    except BuildError as problem:
        print(f"clients/javascript: {problem}", file=sys.stderr)
        return 1
    if arguments != ["--check"]:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        print("clients/javascript/arqonbus.js is out of date: run `make client`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
