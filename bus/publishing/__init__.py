"""The steps of a message: plan, entry, commit, announce. Messages of every interface take them.

``loop`` runs the steps for an event loop (sockets, telemetry). ``django`` runs them for synchronous code (REST, the admin,
commands, a project's own code). The two differ only in how they look up channels, and in which thread they write. Between
entry and commit stand the gates of the project (``gating``; for an event loop ``gated``).
"""
