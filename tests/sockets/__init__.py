"""The log in this process, on the real database."""
