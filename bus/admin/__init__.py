"""The bus in Django's admin: read through the models, changed through the services, so that rules and audit are the same.

Internal tables (spent tickets, remembered message ids, counters, notes of access changes) are not shown.
"""

from __future__ import annotations

from . import access, audit, channels, clients, messages, nodes, rooms

__all__ = ["access", "audit", "channels", "clients", "messages", "nodes", "rooms"]
