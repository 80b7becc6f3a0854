"""An app for a very small shop."""
