"""The bus in Django's admin. Pages read the models and change them through the services.

So the rules, notifications and audit entries are the same as for the socket and REST. Internal tables (used tickets,
remembered message ids, counters, notes of access changes) have no pages.
"""

from __future__ import annotations

from . import access, audit, channels, clients, decisions, handlers, jobs, messages, nodes, rooms

__all__ = ["access", "audit", "channels", "clients", "decisions", "handlers", "jobs", "messages", "nodes", "rooms"]
