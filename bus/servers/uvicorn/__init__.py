"""What the bus knows of uvicorn and its internals. Nothing else imports it."""
