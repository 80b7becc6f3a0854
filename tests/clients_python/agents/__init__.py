"""What `out.pipe` makes of the events of agent frameworks, with the frameworks' own test models and without a network."""

from __future__ import annotations

from tests.harness import frameworks

frameworks.reach()
