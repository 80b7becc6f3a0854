"""The compiled path of the usual message: a C extension, where it was built. The Python code is the definition.

The extension does the same as the Python code for the frames that it takes, and hands every other frame over. Nothing needs
it. ``python -m bus._speed.build`` builds it where a C compiler is (docs/performance.md).
"""

from __future__ import annotations

import importlib
import os
import sysconfig
from types import ModuleType

from .sources import digest

#: Set to 0, the process works without the extension.
SWITCH = "ARQONBUS_COMPILED"


def wanted() -> bool:
    """Return whether the environment leaves the compiled path on."""
    return os.environ.get(SWITCH, "").strip().lower() not in ("0", "false", "no", "off")


def _load() -> tuple[ModuleType | None, str]:
    """Return the extension, or None and why the Python path runs."""
    if not wanted():
        return None, f"{SWITCH} switches it off"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None, "this Python has no global interpreter lock"
    try:
        found = importlib.import_module("bus._speed._core")
    except ModuleNotFoundError:
        return None, "it was not built"
    except ImportError as problem:
        return None, str(problem)
    if (here := digest()) and here != found.SOURCES:
        return None, "it was built from other sources"
    return found, ""


#: The extension, or None. ``why_not`` says why there is none.
core, why_not = _load()


#: Which path runs: ``compiled`` or ``python``.
PATH = "compiled" if core is not None else "python"


def path() -> str:
    """Return which path runs, with the reason why it is not the compiled one."""
    return f"{PATH} ({why_not})" if why_not else PATH
