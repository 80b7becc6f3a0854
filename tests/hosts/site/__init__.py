"""The project. `HOST` in the environment chooses its settings (`tests.hosts.choices`), `HOST_STATE` is its folder."""

from __future__ import annotations

#: Of every user that it has.
PASSWORD = "a long enough pass phrase"
