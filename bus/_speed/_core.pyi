"""The types of the extension."""

SOURCES: str
