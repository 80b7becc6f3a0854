"""The steps of a message: plan, entry, commit, announce. A message takes them whichever way it came.

``loop`` walks them for the clients of an event loop (sockets, telemetry), ``django`` for synchronous code (REST, the admin,
commands, a project's own code). The two differ only in how they look up channels and in which thread they write.
"""
