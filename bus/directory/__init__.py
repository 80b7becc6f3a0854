"""Directory: look up channels and clients, and create them with the first message or member."""
