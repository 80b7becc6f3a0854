"""When Python looks for garbage in cycles.

What a process has loaded when it begins to serve stays for its life; with its few hundred thousand objects set aside a full
collection looks at the connections only, and thresholds above Python's (which are made for short scripts) let it come when
half a million objects are new, not seven times while 5,000 clients connect. Each one stops every client for its length.
Connections that end are freed without it: their cycles are opened when they are closed.
"""

from __future__ import annotations

import functools
import gc

#: New objects before the youngest are looked at; Python's own is 700 or 2,000.
YOUNG = 5_000


@functools.cache
def settle() -> None:
    """Set aside what is there and look less often; done once in a process's life, when it is ready to serve."""
    if not gc.isenabled():
        return
    gc.collect()
    gc.freeze()
    young, *older = gc.get_threshold()
    gc.set_threshold(max(young, YOUNG), *older)
