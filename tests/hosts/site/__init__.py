"""The project. `HOST` in the environment chooses its settings (`tests.hosts.choices`), `HOST_STATE` is its folder."""

from __future__ import annotations
