"""The console: one page that shows the bus alive. Everything it shows comes over the public socket, REST and telemetry.

Here are only the page's shell and its door (log in, or give an access token); the page itself is a set of modules in
``bus/static/arqonbus/console``.
"""

from __future__ import annotations
