"""Sets when Python looks for garbage in cycles.

The objects that a process has loaded before it serves stay for its life. Set aside, they cost a full collection nothing, and
it looks only at the connections. Each collection stops every client for its length. Python's thresholds are made for short
scripts: a full collection would come seven times while 5,000 clients connect. With higher ones it comes after half a million
new objects. Closed connections are freed without a collection, because closing one opens its cycles.
"""

from __future__ import annotations

import functools
import gc

#: New objects after which Python looks at the youngest generation. Its own threshold is 700 or 2,000.
YOUNG = 5_000


@functools.cache
def freeze_loaded() -> None:
    """Set aside the loaded objects and collect less often. It works once, when the process is ready to serve."""
    if not gc.isenabled():
        return
    gc.collect()
    gc.freeze()
    young, *older = gc.get_threshold()
    gc.set_threshold(max(young, YOUNG), *older)
