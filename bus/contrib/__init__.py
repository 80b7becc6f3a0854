"""Optional apps of the bus. A project adds those that it wants to ``INSTALLED_APPS``."""
