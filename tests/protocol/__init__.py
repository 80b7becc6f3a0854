"""The protocol as pure code: no Django, no event loop, no database."""
