"""The console: one page that shows the live bus. All of its data comes over the public socket, REST and telemetry.

This package has only the HTML page, the log-in and the documentation. The scripts of the page are in
``bus/static/arqonbus/console``.
"""

from __future__ import annotations
