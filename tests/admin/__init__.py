"""The admin as its users meet it."""
