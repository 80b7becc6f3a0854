"""Projects of other people with the bus in them: one project whose settings are chosen, and what is tried with each choice."""

from __future__ import annotations
